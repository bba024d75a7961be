"""All that a report is made from, read once, and the few views of it that figures share."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from lrrt.analysis.attribution import EFFECT_TYPES, fired, framework_or_protocol, waterfall
from lrrt.analysis.dispersion import loss_bands, published_comparison
from lrrt.analysis.divergence import OUTCOME_TYPES
from lrrt.analysis.evidence import STEEPEST, Case, Study, network_name
from lrrt.analysis.instrument import RESTART_TYPES, SENSITIVITY_TYPES
from lrrt.analysis.mechanism import MECHANISM_TYPES, turns
from lrrt.analysis.published import published
from lrrt.analysis.rounding import pairs, spreads
from lrrt.analysis.tables import SUGGESTION_TYPES, read_table
from lrrt.analysis.variance import COMPONENT_TYPES, RUN_TYPES, SPREAD_TYPES, by_weights
from lrrt.config import Config, Scaled
from lrrt.core.curve import COLUMNS
from lrrt.errors import InputError
from lrrt.runs import paths
from lrrt.runs.collect import TRAINING_TYPES, curves_file, empty_table


@dataclass(frozen=True, eq=False)
class StudyData(Study):
    """A study's frames and what they came from.

    ``attribution``: of :func:`lrrt.analysis.attribution.effects`, ``variance`` and
    ``variance_runs``: of :mod:`lrrt.analysis.variance`, ``instrument`` and
    ``instrument_restarts``: of :mod:`lrrt.analysis.instrument`, ``mechanism``: of
    :func:`lrrt.analysis.mechanism.mechanism`; empty without runs of their own.
    ``dataset``: the data stage's description. ``samples``: its picture (PNG) or None.
    ``files``: SHA-256 of each file read. ``versions``: package versions of the runs, distinct.
    ``places``: devices and precisions of the runs of a file, by its name.
    """

    attribution: pd.DataFrame = field(default_factory=lambda: empty_table(EFFECT_TYPES))
    variance: pd.DataFrame = field(default_factory=lambda: empty_table(COMPONENT_TYPES))
    variance_runs: pd.DataFrame = field(default_factory=lambda: empty_table(RUN_TYPES))
    instrument: pd.DataFrame = field(default_factory=lambda: empty_table(SENSITIVITY_TYPES))
    instrument_restarts: pd.DataFrame = field(default_factory=lambda: empty_table(RESTART_TYPES))
    mechanism: pd.DataFrame = field(default_factory=lambda: empty_table(MECHANISM_TYPES))
    dataset: dict = field(default_factory=dict)
    samples: bytes | None = None
    files: dict[str, str] = field(default_factory=dict)
    versions: list[dict[str, str]] = field(default_factory=list)
    data_digests: list[str] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)

    def source(self, settings: Scaled | None = None) -> str:
        """What a figure (of runs that the section ``settings`` asks for) is made from; the data's
        description goes wherever figures go."""
        described = self.dataset.get("description", self.config.data.name).rstrip(".")
        model = self.config.model
        scale = self.scale_of(settings) if settings else network_name(model.name, model.depth)
        return f"Study {self.config.study.name}: {scale}. Data: {described}."

    @cached_property
    def bands(self) -> pd.DataFrame:
        """:func:`lrrt.analysis.dispersion.loss_bands` of all sweeps."""
        low, high = self.config.report.loss_quantiles
        return loss_bands(self.curves, self.config.protocols, (low, high))

    @cached_property
    def published(self) -> pd.DataFrame:
        """:func:`lrrt.analysis.dispersion.published_comparison` at the study's batch size."""
        resamples = self.config.report.bootstrap_resamples
        table = published_comparison(self.suggestions, self.config.protocols, resamples)
        return table[table["batch_size"] == self.config.sweep.batch_size].reset_index(drop=True)

    @cached_property
    def medians_by_weights(self) -> pd.DataFrame:
        """:func:`lrrt.analysis.variance.by_weights`, at the study's own network and batch size."""
        own = {"depth": self.config.model.depth, "batch_size": self.config.sweep.batch_size}
        runs = self.variance_runs
        return by_weights(runs[(runs[list(own)] == pd.Series(own)).all(axis=1)])

    @cached_property
    def framework(self) -> pd.DataFrame:
        """:func:`lrrt.analysis.attribution.framework_or_protocol` of the weights sweep."""
        own = self.own
        own = own[own["sweep"].eq("weights") & own["batch_size"].eq(self.config.sweep.batch_size)]
        return framework_or_protocol(own)

    @cached_property
    def fired(self) -> pd.DataFrame:
        """:func:`lrrt.analysis.attribution.fired`, beside the steepest descent of the curve."""
        return fired(self.suggestions, self.own, STEEPEST)

    @cached_property
    def waterfall(self) -> pd.DataFrame:
        """:func:`lrrt.analysis.attribution.waterfall`."""
        return waterfall(self.attribution, published())

    @cached_property
    def rounded(self) -> pd.DataFrame:
        """:func:`lrrt.analysis.rounding.pairs`."""
        return pairs(self.own)

    @cached_property
    def rounding(self) -> pd.DataFrame:
        """:func:`lrrt.analysis.rounding.spreads`."""
        return spreads(self.rounded)

    @cached_property
    def turns(self) -> pd.DataFrame:
        """:func:`lrrt.analysis.mechanism.turns`."""
        return turns(self.mechanism)

    def runs(self) -> list[dict]:
        """Of each backend, protocol and sweep (trainings last): ``count``, ``place``, ``hours``.

        Hours are those of the runs' own processes together, NaN unless all their times are kept.
        """
        rows = []
        for table in (self.curves, self.trainings.assign(sweep="trainings")):
            for case, runs in table.groupby(["backend", "protocol", "sweep"], sort=True)["run"]:
                file = "trainings.parquet" if case[2] == "trainings" else curves_file(case)
                hours = sum(self.seconds.get(run, math.nan) for run in runs.unique()) / 3600
                place = "; ".join(self.places.get(file, []))
                names = dict(zip(("backend", "protocol", "sweep"), case, strict=True))
                rows.append(names | {"count": runs.nunique(), "place": place, "hours": hours})
        return rows

    def is_home(self, case: Case) -> bool:
        """Whether the post ran this protocol on this backend."""
        return self.config.protocols[case[1]].home == case[0]

    def cases(self, sweep: str) -> list[Case]:
        """The cases with curves in ``sweep``, those at home first."""
        found = [case for name, case in self._traces if name == sweep]
        return sorted(found, key=lambda case: (not self.is_home(case), case))

    def band(self, sweep: str, case: Case, batch_size: int) -> pd.DataFrame:
        """The rows of :attr:`bands` of one case and batch size, by step."""
        rows = of_case(self.bands, case)
        mine = (rows["sweep"] == sweep) & (rows["batch_size"] == batch_size)
        return rows[mine].sort_values("step")


def of_case(table: pd.DataFrame, case: Case) -> pd.DataFrame:
    """The rows of one backend and protocol."""
    return table[(table["backend"] == case[0]) & (table["protocol"] == case[1])]


def load(config: Config, root: Path = Path("."), partial: bool = False) -> StudyData:
    """Read the files of the study that ``config`` names, and no others, from ``root``/data.

    Parameters
    ----------
    partial : bool
        Take a file that is not there as an empty one, to look at a study while it runs.

    Raises
    ------
    InputError
        For a file that is missing (unless ``partial``) or cannot be read.
    """
    folder = root / paths.folder(config)
    files: dict[str, str] = {}
    digests, versions, places = [], [], {}

    def content(name: str) -> bytes | None:
        path = folder / name
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            if partial:
                return None
            raise InputError("report", str(path), "a file; `dvc repro` writes it") from None
        files[name] = hashlib.sha256(found).hexdigest()
        return found

    def table(name: str, columns: Sequence[str]) -> pd.DataFrame:
        if content(name) is None:
            return pd.DataFrame(columns=list(columns))
        frame = read_table(folder / name, columns, "dvc repro")
        digests.extend(d for d in frame.attrs.get("data_digests", []) if d not in digests)
        versions.extend(v for v in frame.attrs.get("versions", []) if v not in versions)
        places[name] = frame.attrs.get("places", [])
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

    parts = [table(curves_file(case), COLUMNS) for case in config.cases]
    filled = [part for part in parts if len(part)]
    data = StudyData(
        config=config,
        curves=pd.concat(filled, ignore_index=True) if filled else parts[0],
        suggestions=table("suggestions.parquet", tuple(SUGGESTION_TYPES)),
        trainings=table("trainings.parquet", tuple(TRAINING_TYPES)),
        outcomes=table("outcomes.parquet", tuple(OUTCOME_TYPES)),
        pairs=mapping("pairs.json"),
        **{
            name: table(f"{name}.parquet", tuple(types))
            for name, types, runs in (
                ("attribution", EFFECT_TYPES, config.attribution.runs),
                ("variance", COMPONENT_TYPES, config.variance.weights),
                ("variance_spread", SPREAD_TYPES, config.variance.weights),
                ("variance_runs", RUN_TYPES, config.variance.weights),
                ("instrument", SENSITIVITY_TYPES, config.instrument.runs),
                ("instrument_restarts", RESTART_TYPES, config.instrument.runs),
                ("mechanism", MECHANISM_TYPES, config.mechanism.runs),
            )
            if runs  # nothing is read of a study that asks for none
        },
        dataset=mapping("dataset.json"),
        samples=content("samples.png"),
        files=files,
        versions=versions,
        places=places,
        data_digests=digests,
    )
    if data.dataset and not {*digests} <= {data.dataset.get("digest")}:
        raise InputError(
            "report",
            str(folder / "dataset.json"),
            "the data set that the runs are of; `dvc repro -f data` describes it again",
        )
    return data
