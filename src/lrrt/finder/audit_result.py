"""What an audit gives: the curves of its runs, their summary and verdict, stored or as a page."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lrrt.errors import InputError
from lrrt.files import write_whole
from lrrt.finder.checks import PAGES, check_target
from lrrt.finder.curve import Curve, Suggestion, flaw_of
from lrrt.finder.rules import DEFAULT_RULE
from lrrt.finder.verdict import (
    LR_FACTORS,
    SCHEDULES,
    VARIED,
    Recommendation,
    Summary,
    Trial,
    advice,
    doubts,
    plain,
    recommend,
    summarise,
    verdict,
)

#: What the runs' curves tell of what was to vary, where they have it in common, and why.
UNVARIED = {
    "order": (
        "first_batch",
        "every run began with the same batch, so the order did not vary; make_data does not "
        'shuffle, or seeds its own generator (if it is to be so, vary="weights" says it)',
    ),
    "weights": (
        "weights",
        "every run began with the same weights, so they did not vary; make_model seeds itself, or "
        'loads them (if it is to be so, vary="order" says it)',
    ),
}


@dataclass(frozen=True, eq=False)
class Audit:
    """Range tests of one model over ``runs`` runs, and what they say together.

    ``rule`` is the one that the verdict is about; the curves are there for any other
    (:meth:`by_rule`). ``offset`` is added to the losses before they read them. Learning
    rates are compared in log10.
    """

    curves: tuple[Curve, ...]
    weights_seeds: tuple[int, ...]
    order_seeds: tuple[int, ...]
    rule: str = DEFAULT_RULE
    vary: str = "both"
    trials: tuple[Trial, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    offset: float = 0.0

    @cached_property
    def suggestions(self) -> tuple[Suggestion, ...]:
        """The rule's suggestion of each run."""
        return tuple(curve.suggest(self.rule, offset=self.offset) for curve in self.curves)

    @cached_property
    def summary(self) -> Summary:
        """Of the rule's suggestions."""
        return summarise(self.rule, self.suggestions)

    def by_rule(self) -> list[Summary]:
        """The same for every rule, those of the least spread first."""
        compared = [curve.compare(offset=self.offset) for curve in self.curves]
        found = [summarise(rule, [c[rule] for c in compared]) for rule in compared[0]]
        widest = math.inf  # where a rule has no spread
        return sorted(
            found, key=lambda s: (s.abstained, widest if math.isnan(s.spread) else s.spread)
        )

    @property
    def lr(self) -> float | None:
        """What to train at, the median of the runs' suggestions."""
        return self.summary.median

    @property
    def recommendations(self) -> tuple[Recommendation, ...]:
        """What to train at, by schedule of the short trainings; without any, one for a constant
        rate."""
        schedules = {trial.schedule: None for trial in self.trials} or {"constant": None}
        return tuple(recommend(self.summary, self.trials, schedule) for schedule in schedules)

    @cached_property
    def advice(self) -> tuple[str, ...]:
        """What to train at, a sentence first, and how sure that is."""
        doubted = bool(doubts(self.summary, self._flaw, self._unvaried))
        return tuple(advice(self.summary, self.recommendations, doubted))

    @cached_property
    def verdict(self) -> tuple[str, ...]:
        """Whether the range tests can be trusted, a sentence each; the first is the verdict."""
        return tuple(verdict(self.summary, self.trials, self._flaw, self._unvaried))

    @cached_property
    def _flaw(self) -> str:
        """What is wrong with the runs' median loss: noise that hides a fall in each of a few short
        runs does not hide it in all together."""
        losses = [curve.loss for curve in self.curves]
        shortest = min(map(len, losses))
        return flaw_of(
            np.median([loss[:shortest] for loss in losses], axis=0),
            len(self.curves[0].recorded()[0]),
        )

    @cached_property
    def _unvaried(self) -> list[str]:
        """What was to vary and did not, a clause each."""
        losses = [curve.loss for curve in self.curves]
        repeated = all(np.array_equal(losses[0], loss, equal_nan=True) for loss in losses)
        if repeated and len(losses) > 1:
            return [
                f"all {len(losses)} runs have the very same losses, so that nothing varied; "
                "make_model or make_data give the same whatever the seed"
            ]
        return [UNVARIED[what][1] for what in self.unvaried]

    @property
    def unvaried(self) -> tuple[str, ...]:
        """What of order and weights was to vary, and did not."""
        return tuple(
            what
            for what, (known, _) in UNVARIED.items()
            if len(self.curves) > 1 and self.vary in ("both", what) and known in self.about
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain numbers, strings and lists."""
        return {
            "advice": list(self.advice),
            "recommendations": [
                {name: plain(value) for name, value in vars(r).items()}
                for r in self.recommendations
            ],
            "verdict": list(self.verdict),
            "rule": self.rule,
            "vary": self.vary,
            "offset": self.offset,
            "summary": self.summary.to_dict(),
            "rules": [summary.to_dict() for summary in self.by_rule()],
            "trials": [{**vars(t), "loss": plain(t.loss)} for t in self.trials],
            "runs": [
                {
                    "weights_seed": weights_seed,
                    "order_seed": order_seed,
                    "min_lr": s.min_lr,
                    "max_lr": s.max_lr,
                    "reason": s.reason,
                    "curve": curve.to_dict(),
                }
                for weights_seed, order_seed, s, curve in zip(
                    self.weights_seeds, self.order_seeds, self.suggestions, self.curves, strict=True
                )
            ],
            "about": dict(self.about),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Audit":
        """The inverse of :meth:`to_dict`.

        Raises
        ------
        InputError
            If ``values`` is not from there.
        """
        try:
            made = cls(
                curves=tuple(Curve.from_dict(run["curve"]) for run in values["runs"]),
                weights_seeds=tuple(run["weights_seed"] for run in values["runs"]),
                order_seeds=tuple(run["order_seed"] for run in values["runs"]),
                rule=values["rule"],
                vary=values["vary"],
                offset=float(values.get("offset", 0)),
                trials=tuple(
                    Trial(**{**t, "lr": float(t["lr"]), "loss": float(t["loss"])})
                    for t in values["trials"]
                ),
                about=dict(values["about"]),
            )
            if not made.curves:
                raise InputError("audit.runs", [], "at least one run")
            if made.vary not in tuple(VARIED):
                raise InputError("audit.vary", made.vary, f"one of: {', '.join(VARIED)}")
            _check_trials(made)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError("audit", "values", f"an audit of this package ({error})") from None
        return made

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, whole or not at all; :meth:`load` reads it.

        Raises
        ------
        InputError
            If the name has another ending, or no file can be written there.
        """
        path = check_target("path", path, ".json")
        write_whole(path, json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Audit":
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            If there is no such file, or it is no saved audit.
        """
        try:
            values = json.loads(Path(path).read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise InputError("file", str(path), f"a saved audit ({error})") from None
        return cls.from_dict(values)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML page, whole or not at all.

        Raises
        ------
        InputError
            As :meth:`save`, or where a package is missing that the page needs.
        """
        path = check_target("path", path, *PAGES)
        try:
            from lrrt.finder.audit_page import page
        except ModuleNotFoundError as error:
            raise InputError(
                "report", str(path), f"written where `pip install 'lrrt[report]'` ran ({error})"
            ) from None
        write_whole(path, page(self).encode())
        return path

    def __str__(self) -> str:
        return "\n".join([*self.advice, *self.verdict, str(self.summary)])


def _check_trials(audit: Audit) -> None:
    """Raise :class:`InputError` unless each run that was tried was so at each factor, in order."""
    for schedule in {trial.schedule for trial in audit.trials}:
        factors = [trial.factor for trial in audit.trials if trial.schedule == schedule]
        tried = len(factors) // len(LR_FACTORS)  # runs; all of them once the audit has ended
        whole = factors == [*LR_FACTORS] * tried and tried <= len(audit.curves)
        if not (whole and schedule in SCHEDULES and "train_steps" in audit.about):
            raise InputError(
                "audit.trials",
                f"{len(factors)} trials",
                f"{len(LR_FACTORS)} of each run by {' or '.join(SCHEDULES)}, and about.train_steps",
            )
