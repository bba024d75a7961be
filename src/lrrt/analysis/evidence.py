"""What the claims are judged on: a study's frames, and the few statistics that decide."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lrrt.analysis.ranges import both_lrs, with_range
from lrrt.analysis.statistics import mean_interval, running_median
from lrrt.analysis.tables import by_own_rule, runs_of
from lrrt.config import Config, Scaled, SweepConfig
from lrrt.core.replay import recorded
from lrrt.core.smoothing import ema
from lrrt.experiments.transfer.design import pairs_of
from lrrt.experiments.variance.tables import SPREAD_TYPES
from lrrt.runs.collect import empty_table
from lrrt.runs.specify import ramp_steps

STEEPEST = "blog_fastai"  # the rule whose min LR is the steepest descent of the whole curve
POSTS_STEPS = {"blog_keras": 97, "blog_fastai": 100}  # an epoch at batch size 512; fastai's default
HOLDS, DOES_NOT_HOLD, UNDECIDED = "holds", "does not hold", "undecided"

Case = tuple[str, str]  # backend, protocol


class Finding(NamedTuple):
    """``interval``: 95 %, of the quantity that the evidence names; None where there is none."""

    evidence: str
    verdict: str
    interval: tuple[float, float] | None = None


class Trace(NamedTuple):
    """One range test; arrays of shape (steps,), losses in nats.

    ``lr`` and ``loss`` are what the protocol's finder records; ``trained_lr`` is trained at, and
    ``raw_loss`` has no penalty.
    """

    run: str
    case: Case
    weights_seed: int
    order_seed: int
    batch_size: int
    lr: np.ndarray
    loss: np.ndarray
    trained_lr: np.ndarray
    raw_loss: np.ndarray
    val_loss: np.ndarray | None

    @property
    def steady(self) -> np.ndarray:
        """The raw loss under :func:`.statistics.running_median`, which does not lag."""
        return running_median(self.raw_loss)

    @property
    def smoothed(self) -> np.ndarray:
        """The EMA of what the finder records."""
        return ema(self.loss)


@dataclass(frozen=True)
class Study:
    """The frames of a study, under the names of its files.

    ``seconds``: wall-clock time by run, where known. ``variance_spread``: of
    :func:`lrrt.experiments.variance.tables.spread_table`; empty without a crossed design.
    """

    curves: pd.DataFrame
    suggestions: pd.DataFrame
    trainings: pd.DataFrame
    outcomes: pd.DataFrame
    pairs: Mapping[str, Any]
    config: Config
    seconds: Mapping[str, float] = field(default_factory=dict)
    variance_spread: pd.DataFrame = field(default_factory=lambda: empty_table(SPREAD_TYPES))

    @cached_property
    def own(self) -> pd.DataFrame:
        """The suggestions of each protocol's own rule."""
        return by_own_rule(self.suggestions, self.config.protocols)

    def home_cases(self, sweep: str = "weights") -> list[Case]:
        """The cases that the post ran (a protocol on its own backend) and ``sweep`` has."""
        rows = self.own[self.own["sweep"] == sweep]
        found = rows[["backend", "protocol"]].drop_duplicates().itertuples(index=False, name=None)
        return sorted(case for case in found if self.config.protocols[case[1]].home == case[0])

    def suggested(self, sweep: str, case: Case) -> pd.DataFrame:
        """The own rule's suggestions for one case, in order of seeds."""
        rows = self.own
        mine = rows["sweep"].eq(sweep) & rows["backend"].eq(case[0]) & rows["protocol"].eq(case[1])
        return rows[mine].sort_values(["batch_size", "weights_seed", "order_seed"])

    def both_lrs(self, sweep: str, case: Case) -> pd.DataFrame:
        """Those of :meth:`suggested` that have both a minimum and a maximum LR above 0."""
        return both_lrs(self.suggested(sweep, case))

    def disjoint(self, case: Case) -> np.ndarray:
        """Which runs of the weights sweep that have a range have ones that do not overlap, bool
        (n, n)."""
        rows = with_range(self.suggested("weights", case))
        low, high = rows[["min_lr", "max_lr"]].to_numpy(np.float64).T
        return (low[:, None] > high) | (low > high[:, None])

    @cached_property
    def _traces(self) -> dict[tuple[str, Case], list[Trace]]:
        found: dict[tuple[str, Case], list[Trace]] = {}
        for identity, curve in runs_of(self.curves):
            case, sweep = (identity.pop("backend"), identity.pop("protocol")), identity.pop("sweep")
            lr, loss = recorded(curve, self.config.protocols[case[1]])
            trace = Trace(
                case=case,
                lr=lr,
                loss=loss,
                trained_lr=curve.lr,
                raw_loss=curve.loss,
                val_loss=curve.val_loss,
                **identity,
            )
            found.setdefault((sweep, case), []).append(trace)
        for traces in found.values():
            traces.sort(key=lambda t: (t.batch_size, t.weights_seed, t.order_seed, t.run))
        return found

    def traces(self, sweep: str, *cases: Case) -> list[Trace]:
        """The range tests of ``cases`` (default: the home cases), by batch size, then by seeds."""
        return [
            t for c in cases or self.home_cases(sweep) for t in self._traces.get((sweep, c), [])
        ]

    def cells(self, **wanted: str) -> pd.DataFrame:
        """The outcomes with the given labels; native weights at the constant policy by default."""
        wanted = {"policy": "constant", "weights_from": ""} | wanted
        rows = self.outcomes
        for name, value in wanted.items():
            rows = rows[rows[name] == value]
        return rows

    def accuracies(self, trainings: Sequence[str]) -> list[float]:
        """Validation accuracy of each after as many epochs as all of them were given; 0 of one that
        had stopped before."""
        rows = self.trainings[self.trainings["training"].isin(trainings)]
        common = rows.groupby("training")["epoch"].max().min()
        after = rows[rows["epoch"] == common].set_index("training")["val_accuracy"]
        return [float(value) for value in after.fillna(0.0).loc[list(trainings)]]

    @cached_property
    def pairs_by_name(self) -> dict[str, dict[str, Any]]:
        """All pairs of all cases (:func:`lrrt.experiments.transfer.design.pairs_of`)."""
        return {
            name: pair
            for case, found in self.pairs.items()
            for name, pair in pairs_of(case, found).items()
        }

    @cached_property
    def swapped(self) -> pd.DataFrame:
        """What both weights of a pair reach at both maximum LRs (:meth:`accuracies`).

        One row per pair of which all four were trained, ``pair`` its index; columns ``AA``, ``AB``
        (weights A at B's maximum LR), ``BA`` and ``BB``; and what the mean over both weights gains,
        ``lower``, at B's maximum LR, and, ``own``, at the one of the same run.
        """
        found = {}
        for pair, rows in self.cells(lr_kind="max").groupby("pair"):
            if len(rows) == 4:
                at = rows["weights"] + rows["lr_of"]
                found[pair] = dict(zip(at, self.accuracies(list(rows["training"])), strict=True))
        table = pd.DataFrame.from_dict(found, orient="index", columns=["AA", "AB", "BA", "BB"])
        table = table.astype("float64")
        b_at_own = table["BB"] - table["BA"]
        a_at_own = table["AA"] - table["AB"]
        return table.assign(lower=(b_at_own - a_at_own) / 2, own=(b_at_own + a_at_own) / 2)

    @property
    def scale(self) -> str:
        """Network, data and batch size in words."""
        config = self.config
        network = network_name(config.model.name, config.model.depth)
        return f"{network} on {config.data.name} at batch size {config.sweep.batch_size}"

    def scale_of(self, settings: Scaled | None = None) -> str:
        """Network and batch size in words of the runs that a section asks for; of the study's."""
        model = self.config.model
        depth = settings and settings.depth or model.depth
        batch_size = settings and settings.batch_size or self.config.sweep.batch_size
        return f"{network_name(model.name, depth)}, batch {batch_size}"

    @property
    def at_the_posts_scale(self) -> bool:
        """Whether network, data, batch size and the steps of each protocol are the post's."""
        model, data, sweep = self.config.model, self.config.data, self.config.sweep
        swept, whole_batches = SweepConfig(steps=sweep.steps), data.train_images // sweep.batch_size
        steps = {
            name: ramp_steps(swept, self.config.protocols[name], whole_batches)
            for name in POSTS_STEPS.keys() & self.config.study.protocols
        }
        return (
            (model.name, model.depth, model.width) == ("resnet", 56, 16)
            and (data.name, data.train_images, data.test_images) == ("cifar10", 50000, 10000)
            and sweep.batch_size == 512
            and steps.items() <= POSTS_STEPS.items()
        )


def network_name(name: str, depth: int) -> str:
    """As people write it: ResNet-56."""
    return f"{ {'resnet': 'ResNet'}.get(name, name) }-{depth}"


def number(value: float) -> str:
    """Two significant digits."""
    return f"{value:.2g}"


def case_name(case: Case) -> str:
    return f"{case[0]} with {case[1]}"


def counted(values: Iterable[str], names: Sequence[str]) -> str:
    """``"3 trains, 1 stalls"``: how often each of ``names`` that occurs does."""
    values = list(values)
    return ", ".join(f"{values.count(name)} {name}" for name in names if name in values) or "none"


def gained(values: pd.Series) -> str:
    """A mean gain of accuracy, and its interval where there is one: ``"+0.31 [+0.21, +0.41]"``."""
    low, high = mean_interval(values.to_numpy())
    ends = f" [{low:+.2f}, {high:+.2f}]" if math.isfinite(low) else ""
    return f"{values.mean():+.2f}{ends}"


def beside(interval: tuple[float, float] | None, value: float) -> str:
    """``holds`` if the interval lies above ``value``, ``does not hold`` if below, or undecided."""
    if interval is None or not all(map(math.isfinite, interval)) or interval[0] <= value:
        below = interval is not None and interval[1] < value
        return DOES_NOT_HOLD if below else UNDECIDED
    return HOLDS
