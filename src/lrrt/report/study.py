"""All that a report is made from, read once, and the few views of it that figures share."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lrrt.analysis.dispersion import loss_bands
from lrrt.analysis.tables import by_own_rule, runs_of
from lrrt.config import Config
from lrrt.core.curve import COLUMNS, Curve
from lrrt.core.replay import recorded
from lrrt.core.smoothing import ema
from lrrt.errors import InputError

WINDOW = 5  # steps of the running median that takes batch noise, and no more, out of a raw loss


class Trace(NamedTuple):
    """One range test as its protocol records it; arrays of shape (steps,), losses in nats."""

    run: str
    backend: str
    protocol: str
    sweep: str
    weights_seed: int
    order_seed: int
    batch_size: int
    lr: np.ndarray
    loss: np.ndarray
    smoothed: np.ndarray
    val_loss: np.ndarray | None

    @property
    def steady(self) -> np.ndarray:
        """The raw loss under :func:`running_median`."""
        return running_median(self.loss)


def running_median(loss: np.ndarray) -> np.ndarray:
    """Centred running median over :data:`WINDOW` steps, shape (steps,), which does not lag; a NaN
    or infinity in a window counts as infinitely large."""
    finite = np.where(np.isfinite(loss), loss, np.inf)
    padded = np.pad(finite, WINDOW // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, WINDOW), axis=1)


@dataclass(frozen=True, eq=False)
class StudyData:
    """A study's frames and what they came from; columns as in ``README.md``, Formats.

    ``pairs``: by ``<backend>-<protocol>``, what the divergence stage chose as A and B.
    ``dataset``: the data stage's description. ``samples``: its picture (PNG) or None.
    ``files``: SHA-256 of each file read. ``versions``: package versions of the runs, distinct.
    """

    config: Config
    curves: pd.DataFrame
    suggestions: pd.DataFrame
    trainings: pd.DataFrame
    outcomes: pd.DataFrame
    pairs: dict
    dataset: dict
    samples: bytes | None = None
    files: dict[str, str] = field(default_factory=dict)
    versions: list[dict[str, str]] = field(default_factory=list)
    data_digests: list[str] = field(default_factory=list)

    @cached_property
    def own(self) -> pd.DataFrame:
        """The suggestions of each protocol's own rule (the table also has the other rules')."""
        return by_own_rule(self.suggestions, self.config.protocols)

    @cached_property
    def bands(self) -> pd.DataFrame:
        """:func:`lrrt.analysis.dispersion.loss_bands` of all sweeps."""
        low, high = self.config.report.loss_quantiles
        return loss_bands(self.curves, self.config.protocols, (low, high))

    @cached_property
    def _traces(self) -> dict[tuple[str, str, str], list[Trace]]:
        found: dict[tuple[str, str, str], list[Trace]] = {}
        for identity, curve in runs_of(self.curves):
            case = (identity["sweep"], identity["backend"], identity["protocol"])
            found.setdefault(case, []).append(self._trace(identity, curve))
        for traces in found.values():
            traces.sort(key=lambda t: (t.batch_size, t.weights_seed, t.order_seed, t.run))
        return found

    def _trace(self, identity: dict, curve: Curve) -> Trace:
        lr, loss = recorded(curve, self.config.protocols[identity["protocol"]])
        return Trace(**identity, lr=lr, loss=loss, smoothed=ema(loss), val_loss=curve.val_loss)

    def is_home(self, backend: str, protocol: str) -> bool:
        """Whether the post ran ``protocol`` on ``backend``."""
        known = self.config.protocols.get(protocol)
        return known is not None and known.home == backend

    def cases(self, sweep: str) -> list[tuple[str, str]]:
        """The (backend, protocol) pairs with curves in ``sweep``; those at home come first."""
        found = [case[1:] for case in self._traces if case[0] == sweep]
        return sorted(found, key=lambda case: (not self.is_home(*case), case))

    def traces(self, sweep: str, backend: str, protocol: str) -> list[Trace]:
        """The range tests of one case, by batch size, then by seeds; none if there are none."""
        return self._traces.get((sweep, backend, protocol), [])

    def band(self, sweep: str, backend: str, protocol: str, batch_size: int) -> pd.DataFrame:
        """The rows of :attr:`bands` of one case and batch size, by step."""
        rows = _where(self.bands, sweep=sweep, backend=backend, protocol=protocol)
        return rows[rows["batch_size"] == batch_size].sort_values("step")

    def suggested(self, sweep: str, backend: str, protocol: str) -> pd.DataFrame:
        """Own-rule suggestions of one case, one row per run, by batch size, then by seeds."""
        rows = _where(self.own, sweep=sweep, backend=backend, protocol=protocol)
        return rows.sort_values(["batch_size", "weights_seed", "order_seed", "run"])

    def scale(self) -> str:
        """The study's setting in a few words, for captions and headings."""
        model, sweep = self.config.model, self.config.sweep
        name = "ResNet" if model.name == "resnet" else model.name
        data = {"cifar10": "CIFAR-10"}.get(self.config.data.name, self.config.data.name)
        return f"{name}-{model.depth} on {data}, batch {sweep.batch_size}"


def _where(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def load(config: Config, root: Path = Path("."), partial: bool = False) -> StudyData:
    """Read the files of the study that ``config`` names, and no others, from ``root``/data.

    Parameters
    ----------
    partial : bool
        Take a file that is not there yet as an empty one, to look at a study while it runs.

    Raises
    ------
    InputError
        For a file that is missing (unless ``partial``) or cannot be read.
    """
    folder = root / "data" / config.study.name
    files: dict[str, str] = {}
    digests, versions = [], []

    def content(name: str) -> bytes | None:
        path = folder / name
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            if partial:
                return None
            raise InputError("report", str(path), "an existing file; `dvc repro` writes it") from None
        files[name] = hashlib.sha256(found).hexdigest()
        return found

    def table(name: str, columns: Sequence[str] = ()) -> pd.DataFrame:
        found = content(name)
        if found is None:
            return pd.DataFrame(columns=list(columns))
        try:
            frame = pd.read_parquet(io.BytesIO(found))
        except (OSError, ValueError) as error:  # pyarrow's errors are either
            reason = (str(error).splitlines() or ["cut"])[0]
            raise InputError("report", str(folder / name), f"a Parquet file ({reason})") from None
        absent = [column for column in columns if column not in frame]
        if absent:
            raise InputError("report", str(folder / name), f"a table with {', '.join(absent)}")
        digests.extend(d for d in frame.attrs.get("data_digests", []) if d not in digests)
        versions.extend(v for v in frame.attrs.get("versions", []) if v not in versions)
        return frame

    def mapping(name: str) -> dict:
        found = content(name)
        try:
            parsed = {} if found is None else json.loads(found)
        except ValueError as error:
            raise InputError("report", str(folder / name), f"a JSON file ({error})") from None
        if not isinstance(parsed, dict):
            raise InputError("report", str(folder / name), "a JSON object")
        return parsed

    study = config.study
    parts = [
        table(f"curves/{backend}-{protocol}-{sweep}.parquet", COLUMNS)
        for backend in study.backends
        for protocol in study.protocols
        for sweep in study.sweeps
    ]
    filled = [part for part in parts if len(part)]
    return StudyData(
        config=config,
        curves=pd.concat(filled, ignore_index=True) if filled else parts[0],
        suggestions=table("suggestions.parquet", SUGGESTION_COLUMNS),
        trainings=table("trainings.parquet", TRAINING_COLUMNS),
        outcomes=table("outcomes.parquet", OUTCOME_COLUMNS),
        pairs=mapping("pairs.json"),
        dataset=mapping("dataset.json"),
        samples=content("samples.png"),
        files=files,
        versions=versions,
        data_digests=digests,
    )


SUGGESTION_COLUMNS = (*COLUMNS[:7], "rule", "min_lr", "max_lr", "fallback", "reason", "stop_step")
_CELL = (
    "training", "pair", "backend", "protocol", "weights_seed", "weights", "lr_of", "lr_kind",
    "weights_from", "policy", "lr",
)
TRAINING_COLUMNS = (
    *_CELL, "epoch", "step_lr", "train_loss", "train_eval_loss", "train_accuracy", "val_loss",
    "val_accuracy",
)
OUTCOME_COLUMNS = (*_CELL, "outcome", "reason", "stopped_at_step")
