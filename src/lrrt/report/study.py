"""All that a report is made from, read once, and the few views of it that figures share."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from lrrt import plugins
from lrrt.analysis.published import published
from lrrt.analysis.suggestions import (
    CURVE_TYPES,
    STEEPEST,
    SUGGESTION_TYPES,
    curves_file,
    read_table,
)
from lrrt.claims.study import Case, Study
from lrrt.claims.verdict import Scale
from lrrt.config import Config, Scaled
from lrrt.config.schema import SECTIONS
from lrrt.errors import InputError
from lrrt.experiments.attribution.tables import (
    EFFECT_TYPES,
    fallback_table,
    framework_or_protocol,
    waterfall,
)
from lrrt.experiments.sensitivity.smoothing import smoothing_shift
from lrrt.experiments.sensitivity.tables import RESTART_TYPES, SENSITIVITY_TYPES
from lrrt.experiments.stability.tables import MECHANISM_TYPES, turns
from lrrt.experiments.sweep.dispersion import loss_bands, published_comparison
from lrrt.experiments.sweep.rounding import pairs, spreads
from lrrt.experiments.variance.tables import COMPONENT_TYPES, SPREAD_TYPES
from lrrt.report import wording
from lrrt.runs import paths
from lrrt.runs.result_tables import empty_table


@dataclass(frozen=True, eq=False)
class StudyData(Study):
    """A study's frames and what they came from.

    ``attribution``: of :func:`lrrt.experiments.attribution.tables.effects`, ``variance`` and
    ``variance_spread``: of :mod:`lrrt.experiments.variance.tables`, ``instrument`` and
    ``instrument_restarts``: of :mod:`lrrt.experiments.sensitivity.tables`, ``mechanism``: of
    :func:`lrrt.experiments.stability.tables.mechanism`; empty without runs of their own.
    ``tables``: those of every experiment by the name of its file (``oracle``: oracle.parquet).
    ``dataset``: the data stage's description. ``samples``: its picture (PNG) or None.
    ``files``: SHA-256 of each file read. ``versions``: package versions of the runs, distinct.
    ``places``: devices and precisions of the runs of a file, by its name.
    """

    attribution: pd.DataFrame = field(default_factory=lambda: empty_table(EFFECT_TYPES))
    variance: pd.DataFrame = field(default_factory=lambda: empty_table(COMPONENT_TYPES))
    variance_spread: pd.DataFrame = field(default_factory=lambda: empty_table(SPREAD_TYPES))
    instrument: pd.DataFrame = field(default_factory=lambda: empty_table(SENSITIVITY_TYPES))
    instrument_restarts: pd.DataFrame = field(default_factory=lambda: empty_table(RESTART_TYPES))
    mechanism: pd.DataFrame = field(default_factory=lambda: empty_table(MECHANISM_TYPES))
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    dataset: dict = field(default_factory=dict)
    samples: bytes | None = None
    files: dict[str, str] = field(default_factory=dict)
    versions: list[dict[str, str]] = field(default_factory=list)
    data_digests: list[str] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)

    def source(self, settings: Scaled | None = None) -> str:
        """What a figure (of runs that the section ``settings`` asks for) is made from: scale and
        data, with the first that its description says of them in brackets."""
        described = self.dataset.get("description", self.config.data.name)
        data = re.match(r"[^(:]*(\([^,)]*)?", described)[0].strip()
        closed = ")" if "(" in data else ""
        return f"Study {self.config.study.name}: {self.scale_of(settings)}, {data}{closed}."

    @property
    def setting(self) -> str:
        """Network, data and batch size in words."""
        data = wording.name(self.config.data.name)
        network = wording.network(self.scale.network, self.scale.depth)
        return f"{network} on {data} at batch size {self.config.sweep.batch_size}"

    def scale_of(self, settings: Scaled | None = None) -> str:
        """Network and batch size in words of the runs that a section asks for; of the study's."""
        depth = settings and settings.depth or self.scale.depth
        batch_size = settings and settings.batch_size or self.scale.batch_size
        return wording.scale(Scale(self.scale.network, depth, batch_size))

    @cached_property
    def bands(self) -> pd.DataFrame:
        """:func:`lrrt.experiments.sweep.dispersion.loss_bands` of all sweeps."""
        low, high = self.config.report.loss_quantiles
        return loss_bands(self.curves, self.config.protocols, (low, high))

    @cached_property
    def published(self) -> pd.DataFrame:
        """:func:`.dispersion.published_comparison` at the study's batch size."""
        resamples = self.config.report.bootstrap_resamples
        table = published_comparison(self.suggestions, self.config.protocols, resamples)
        return table[table["batch_size"] == self.config.sweep.batch_size].reset_index(drop=True)

    @cached_property
    def framework(self) -> pd.DataFrame:
        """:func:`~lrrt.experiments.attribution.tables.framework_or_protocol` of that sweep."""
        own = self.own
        own = own[own["sweep"].eq("weights") & own["batch_size"].eq(self.config.sweep.batch_size)]
        return framework_or_protocol(own)

    @cached_property
    def fallbacks(self) -> pd.DataFrame:
        """:func:`.attribution.tables.fallback_table`, beside the steepest descent."""
        return fallback_table(self.suggestions, self.own, STEEPEST)

    @cached_property
    def waterfall(self) -> pd.DataFrame:
        """:func:`lrrt.experiments.attribution.tables.waterfall`."""
        return waterfall(self.attribution, published())

    @cached_property
    def rounding_pairs(self) -> pd.DataFrame:
        """:func:`lrrt.experiments.sweep.rounding.pairs`."""
        return pairs(self.own)

    @cached_property
    def rounding(self) -> pd.DataFrame:
        """:func:`lrrt.experiments.sweep.rounding.spreads`."""
        return spreads(self.rounding_pairs)

    @cached_property
    def smoothing_shift(self) -> pd.DataFrame:
        """:func:`lrrt.experiments.sensitivity.smoothing.smoothing_shift` of the weights sweep."""
        own = self.curves["batch_size"].eq(self.config.sweep.batch_size)
        swept = self.curves[own & self.curves["sweep"].eq("weights")]
        return smoothing_shift(swept, self.config.protocols)

    @cached_property
    def turns(self) -> pd.DataFrame:
        """:func:`lrrt.experiments.stability.tables.turns`."""
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


def experiments(config: Config) -> Iterator[tuple[str, bool, dict[str, dict[str, str]]]]:
    """Of each experiment but ``sweep``: its name, whether the study asks for it, ``SCHEMAS``."""
    found = plugins.parts("lrrt.experiments", "tables")
    for key, section in SECTIONS.items():
        name = section.__name__.split(".")[-2]
        yield name, getattr(config, key).enabled, found[name].SCHEMAS


def of_case(table: pd.DataFrame, case: Case) -> pd.DataFrame:
    """The rows of one backend and protocol."""
    return table[(table["backend"] == case[0]) & (table["protocol"] == case[1])]


#: What the claims are judged on, beside curves, suggestions and pairs.
JUDGED = ("trainings.parquet", "outcomes.parquet", "variance_runs.parquet")


@dataclass
class _Reader:
    """Reads files of a study's ``folder`` and notes what they say of themselves: see
    :class:`StudyData`. With ``partial`` a file that is not there counts as an empty one."""

    folder: Path
    partial: bool
    files: dict[str, str] = field(default_factory=dict)
    versions: list[dict[str, str]] = field(default_factory=list)
    data_digests: list[str] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)

    def content(self, name: str) -> bytes | None:
        path = self.folder / name
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            if self.partial:
                return None
            raise InputError("report", str(path), "a file; `dvc repro` writes it") from None
        self.files[name] = hashlib.sha256(found).hexdigest()
        return found

    def table(self, name: str, columns: Sequence[str]) -> pd.DataFrame:
        if self.content(name) is None:
            return pd.DataFrame(columns=list(columns))
        frame = read_table(self.folder / name, columns, "dvc repro")
        for attribute in ("data_digests", "versions"):
            noted = getattr(self, attribute)
            noted.extend(a for a in frame.attrs.get(attribute, []) if a not in noted)
        self.places[name] = frame.attrs.get("places", [])
        return frame

    def mapping(self, name: str) -> dict:
        found, path = self.content(name), str(self.folder / name)
        try:
            parsed = {} if found is None else json.loads(found)
        except ValueError as error:
            raise InputError("report", path, f"a JSON file ({error})") from None
        if not isinstance(parsed, dict):
            raise InputError("report", path, "a JSON object")
        return parsed


def load(
    config: Config,
    root: Path = Path("."),
    partial: bool = False,
    only: Collection[str] | None = None,
) -> StudyData:
    """Read the files of the study that ``config`` names, and no others, from ``root``/data.

    Parameters
    ----------
    partial : bool
        Take a file that is not there as an empty one, to look at a study while it runs.
    only : collection of str, optional
        Of the experiments' tables these alone (:data:`JUDGED`), and no description of the data.

    Raises
    ------
    InputError
        For a file that is missing (unless ``partial``) or cannot be read.
    """
    reader = _Reader(root / paths.folder(config), partial)
    parts = [reader.table(curves_file(case), [*CURVE_TYPES]) for case in config.cases]
    filled = [part for part in parts if len(part)]
    suggestions = reader.table("suggestions.parquet", [*SUGGESTION_TYPES])
    tables, seconds = {}, reader.mapping("timings/sweep.json")
    for name, enabled, schemas in experiments(config):
        for file, types in schemas.items():
            read = enabled and (only is None or file in only)
            tables[Path(file).stem] = reader.table(file, [*types]) if read else empty_table(types)
        seconds |= reader.mapping(f"timings/{name}.json") if enabled and only is None else {}
    known = {field.name for field in dataclasses.fields(StudyData)}
    data = StudyData(
        config=config,
        curves=pd.concat(filled, ignore_index=True) if filled else parts[0],
        suggestions=suggestions,
        pairs=reader.mapping("pairs.json") if config.divergence.enabled else {},
        tables=tables,
        **{name: frame for name, frame in tables.items() if name in known},
        seconds=seconds,
        dataset=reader.mapping("dataset.json") if only is None else {},
        samples=reader.content("samples.png") if only is None else None,
        files=reader.files,
        versions=reader.versions,
        places=reader.places,
        data_digests=reader.data_digests,
    )
    if data.dataset and not {*reader.data_digests} <= {data.dataset.get("digest")}:
        raise InputError(
            "report",
            str(reader.folder / "dataset.json"),
            "the data set that the runs are of; `dvc repro -f data` describes it again",
        )
    return data
