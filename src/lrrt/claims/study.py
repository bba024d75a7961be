"""What the claims are judged on: the frames of one study, and the few views of them that claims
and figures share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lrrt.analysis.ranges import both_lrs, with_range
from lrrt.analysis.statistics import running_median
from lrrt.analysis.suggestions import STEEPEST, by_own_rule, runs_of
from lrrt.claims.verdict import Scale
from lrrt.config import Config, Sweep
from lrrt.core.networks import resnet
from lrrt.core.recording import recording
from lrrt.core.smoothing import ema
from lrrt.experiments.transfer.design import pairs_of
from lrrt.experiments.variance.tables import RUN_TYPES
from lrrt.runs.result_tables import empty_table
from lrrt.runs.specify import ramp_steps

POSTS_STEPS = {"blog_keras": 97, "blog_fastai": 100}  # an epoch at batch size 512; fastai's default

Case = tuple[str, str]  # backend, protocol
KERAS, FASTAI = ("keras", "blog_keras"), ("torch", "blog_fastai")


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

    ``seconds``: wall-clock time by run, where known. ``variance_runs``: of
    :mod:`lrrt.experiments.variance.tables`; empty without a crossed design.
    """

    curves: pd.DataFrame
    suggestions: pd.DataFrame
    trainings: pd.DataFrame
    outcomes: pd.DataFrame
    pairs: Mapping[str, Any]
    config: Config
    seconds: Mapping[str, float] = field(default_factory=dict)
    variance_runs: pd.DataFrame = field(default_factory=lambda: empty_table(RUN_TYPES))

    @cached_property
    def own(self) -> pd.DataFrame:
        """The suggestions of each protocol's own rule."""
        return by_own_rule(self.suggestions, self.config.protocols)

    @property
    def scale(self) -> Scale:
        """Its network and batch size."""
        model = self.config.model
        return Scale(model.name, getattr(model, "depth", 0), self.config.sweep.batch_size)

    @cached_property
    def steepest(self) -> pd.Series:
        """LR of the steepest descent of the smoothed curve, by backend, protocol, sweep, run."""
        rows = self.suggestions[self.suggestions["rule"] == STEEPEST]
        return rows.set_index(["backend", "protocol", "sweep", "run"])["min_lr"]

    def home_cases(self, sweep: str = "weights") -> list[Case]:
        """The cases that the post ran (a protocol on its own backend) and ``sweep`` has."""
        rows = self.own[self.own["sweep"] == sweep]
        found = rows[["backend", "protocol"]].drop_duplicates().itertuples(index=False, name=None)
        return sorted(case for case in found if self.config.protocols[case[1]].home == case[0])

    def own_suggestions(self, sweep: str, case: Case) -> pd.DataFrame:
        """The own rule's suggestions for one case, in order of seeds."""
        rows = self.own
        mine = rows["sweep"].eq(sweep) & rows["backend"].eq(case[0]) & rows["protocol"].eq(case[1])
        return rows[mine].sort_values(["batch_size", "weights_seed", "order_seed"])

    def both_lrs(self, sweep: str, case: Case) -> pd.DataFrame:
        """Those of :meth:`own_suggestions` that have both a minimum and a maximum LR above 0."""
        return both_lrs(self.own_suggestions(sweep, case))

    def disjoint(self, case: Case) -> np.ndarray:
        """Which runs of the weights sweep that have a range have ones that do not overlap, bool
        (n, n)."""
        rows = with_range(self.own_suggestions("weights", case))
        low, high = rows[["min_lr", "max_lr"]].to_numpy(np.float64).T
        return (low[:, None] > high) | (low > high[:, None])

    @cached_property
    def _traces(self) -> dict[tuple[str, Case], list[Trace]]:
        found: dict[tuple[str, Case], list[Trace]] = {}
        for identity, curve in runs_of(self.curves):
            case, sweep = (identity.pop("backend"), identity.pop("protocol")), identity.pop("sweep")
            lr, loss = recording(curve, self.config.protocols[case[1]])
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

    def outcomes_of(self, **wanted: str) -> pd.DataFrame:
        """The outcomes with the given labels; native weights at the constant policy by default."""
        wanted = {"policy": "constant", "weights_from": ""} | wanted
        rows = self.outcomes
        for name, value in wanted.items():
            rows = rows[rows[name] == value]
        return rows

    def accuracies(self, trainings: Sequence[str], last: int = 1) -> list[float]:
        """Validation accuracy of each after as many epochs as all of them were given, as the mean
        of the ``last`` evaluations; 0 of one that had stopped before."""
        return self._last_epochs("val_accuracy", trainings, last, 0.0)

    def log_losses(self, trainings: Sequence[str]) -> list[float]:
        """Validation log-loss (nats) of each, likewise; at most the loss before training, since a
        larger one says how large the weights have become."""
        rows = self.trainings.drop_duplicates("training").set_index("training")["initial_loss"]
        found = self._last_epochs("val_loss", trainings, 1, np.inf)
        return [min(*pair) for pair in zip(found, rows.loc[list(trainings)], strict=True)]

    def _last_epochs(
        self, column: str, trainings: Sequence[str], last: int, stopped: float
    ) -> list[float]:
        rows = self.trainings[self.trainings["training"].isin(trainings)]
        common = rows.groupby("training")["epoch"].max().min()
        rows = rows[rows["epoch"].between(common - last + 1, common)]
        values = rows[column].where(np.isfinite(rows[column]), stopped)
        means = values.groupby(rows["training"]).mean()
        return [float(value) for value in means.loc[list(trainings)]]

    @cached_property
    def pairs_by_name(self) -> dict[str, dict[str, Any]]:
        """All pairs of all cases (:func:`lrrt.experiments.transfer.design.pairs_of`)."""
        return {
            name: pair
            for case, found in self.pairs.items()
            for name, pair in pairs_of(case, found).items()
        }

    @cached_property
    def swap_accuracies(self) -> pd.DataFrame:
        """What both weights of a pair reach at both maximum LRs (:meth:`accuracies`).

        One row per pair of which all four were trained, ``pair`` its index; columns ``AA``, ``AB``
        (weights A at B's maximum LR), ``BA`` and ``BB``; and what the mean over both weights gains,
        ``lower``, at B's maximum LR, and, ``own``, at the one of the same run.
        """
        found = {}
        for pair, rows in self.outcomes_of(lr_kind="max").groupby("pair"):
            if len(rows) == 4:
                at = rows["weights"] + rows["lr_of"]
                found[pair] = dict(zip(at, self.accuracies(list(rows["training"])), strict=True))
        table = pd.DataFrame.from_dict(found, orient="index", columns=["AA", "AB", "BA", "BB"])
        table = table.astype("float64")
        b_at_own = table["BB"] - table["BA"]
        a_at_own = table["AA"] - table["AB"]
        return table.assign(lower=(b_at_own - a_at_own) / 2, own=(b_at_own + a_at_own) / 2)

    @property
    def at_the_posts_scale(self) -> bool:
        """Whether network, data, batch size and the steps of each protocol are the post's."""
        model, data, sweep = self.config.model, self.config.data, self.config.sweep
        swept, whole_batches = Sweep(steps=sweep.steps), data.train_images // sweep.batch_size
        steps = {
            name: ramp_steps(swept, self.config.protocols[name], whole_batches)
            for name in POSTS_STEPS.keys() & self.config.study.protocols
        }
        return (
            model == resnet.Model(depth=56, width=16)
            and (data.name, data.train_images, data.test_images) == ("cifar10", 50000, 10000)
            and sweep.batch_size == 512
            and steps.items() <= POSTS_STEPS.items()
        )
