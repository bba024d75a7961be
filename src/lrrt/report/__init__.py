"""The report: figures, tables, claims and one page, drawn from a study's frames."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from lrrt.config import Config
from lrrt.core.curve import Curve
from lrrt.core.replay import recorded
from lrrt.core.smoothing import ema

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
        """The raw loss under a centred running median of :data:`WINDOW` steps: it does not lag."""
        return running_median(self.loss)


def running_median(loss: np.ndarray) -> np.ndarray:
    """Centred running median over :data:`WINDOW` steps, shape (steps,); a NaN or infinity in a
    window counts as infinitely large."""
    finite = np.where(np.isfinite(loss), loss, np.inf)
    padded = np.pad(finite, WINDOW // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, WINDOW), axis=1)


@dataclass(frozen=True)
class StudyData:
    """All that a report reads, loaded once; columns as in DESIGN.md and ``lrrt.core.curve``.

    ``pairs``: by ``<backend>-<protocol>``, what the divergence stage chose as A and B.
    ``dataset``: the data stage's description. ``samples``: its picture (PNG bytes) or None.
    """

    config: Config
    curves: pd.DataFrame
    suggestions: pd.DataFrame
    trainings: pd.DataFrame
    outcomes: pd.DataFrame
    pairs: dict
    dataset: dict
    samples: bytes | None = None
    digests: dict[str, str] = field(default_factory=dict)  # SHA-256 of each file read

    def cases(self, sweep: str = "weights") -> list[tuple[str, str]]:
        """The (backend, protocol) pairs with curves in ``sweep``; a protocol at home comes first."""
        rows = self.curves[self.curves["sweep"] == sweep]
        found = rows[["backend", "protocol"]].drop_duplicates().itertuples(index=False, name=None)
        return sorted(found, key=lambda case: (not self.is_home(*case), case))

    def is_home(self, backend: str, protocol: str) -> bool:
        """Whether the post ran ``protocol`` on ``backend``."""
        known = self.config.protocols.get(protocol)
        return known is not None and known.home == backend

    def home_cases(self, sweep: str = "weights") -> list[tuple[str, str]]:
        """The cases the post ran; all there are where none of them is present."""
        cases = self.cases(sweep)
        return [case for case in cases if self.is_home(*case)] or cases

    def traces(
        self, sweep: str, backend: str, protocol: str, batch_size: int | None = None
    ) -> list[Trace]:
        """The range tests of one case, as recorded by its protocol, in order of seeds."""
        rows = self.curves
        rows = rows[
            (rows["sweep"] == sweep) & (rows["backend"] == backend) & (rows["protocol"] == protocol)
        ]
        if batch_size is not None:
            rows = rows[rows["batch_size"] == batch_size]
        groups = rows.groupby(["batch_size", "weights_seed", "order_seed", "run"], sort=True)
        return [self._trace(group.sort_values("step")) for _, group in groups]

    def _trace(self, rows: pd.DataFrame) -> Trace:
        first = rows.iloc[0]

        def column(name: str) -> np.ndarray | None:
            values = rows[name].to_numpy(float) if name in rows else np.array([np.nan])
            return None if np.isnan(values).all() else values

        curve = Curve(
            lr=rows["lr"].to_numpy(float),
            loss=rows["loss"].to_numpy(float),
            penalty=rows["penalty"].to_numpy(float),
            grad_norm=rows["grad_norm"].to_numpy(float),
            val_loss=column("val_loss"),
            val_accuracy=column("val_accuracy"),
        )
        lr, loss = recorded(curve, self.config.protocols[first["protocol"]])
        with np.errstate(all="ignore"):  # a diverged loss overflows; that is an outcome
            smoothed = ema(loss)
        return Trace(
            str(first["run"]), str(first["backend"]), str(first["protocol"]), str(first["sweep"]),
            int(first["weights_seed"]), int(first["order_seed"]), int(first["batch_size"]),
            lr, loss, smoothed, curve.val_loss,
        )

    def suggested(
        self, sweep: str | None = None, backend: str | None = None, protocol: str | None = None
    ) -> pd.DataFrame:
        """Suggestions by each protocol's own rule (the table also has the other rules')."""
        rows = self.suggestions
        rules = {name: p.rule for name, p in self.config.protocols.items()}
        keep = rows["rule"] == rows["protocol"].map(rules)
        for name, value in (("sweep", sweep), ("backend", backend), ("protocol", protocol)):
            if value is not None:
                keep &= rows[name] == value
        return rows[keep]


def number(value: float, digits: int = 2) -> str:
    """A number as a person reads it: ``0.084``, ``5.5e-4``; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
        return f"{value:.{decimals}f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def log_quantiles(values: pd.Series | np.ndarray, quantiles: list[float]) -> np.ndarray:
    """Quantiles of positive numbers, taken in log10; NaN and zeros are left out."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return np.full(len(quantiles), np.nan)
    return 10 ** np.quantile(np.log10(values), quantiles)
