"""The curve of a range test on a live model: suggest, compare, plot, save, load."""

import csv
import inspect
import io
import json
import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lrrt.core import curve as core_curve
from lrrt.core import rules as core_rules
from lrrt.core.edge import NEVER_FELL, STILL_FALLING
from lrrt.core.smoothing import ema
from lrrt.errors import InputError
from lrrt.files import write_whole
from lrrt.finder import rules
from lrrt.finder.checks import check_count, check_target
from lrrt.finder.live_model import Departure

COLUMNS = tuple(f.name for f in fields(core_curve.Curve))

# What speaks against a suggestion; the first three against any of the same curve.
BEFORE = ", before it fell"
CUT = f"a loss was not finite{BEFORE}"  # a curve of its own says which, and where
FLAWS = (NEVER_FELL, STILL_FALLING, CUT)
FALLBACK = "the rule found nothing and silently answered its fallback"
SIGNED = (
    "a loss was zero or below before the rule's stop, which is a multiple of the best loss: add a "
    "constant to the loss (offset)"
)
CROSSED = "the minimum lies above the maximum"
SMOOTHED = "smoothed (EMA 0.98)"
# A fall is more than so many standard errors, and counts from so many steps on. How often that errs
# reliability/flaws.py measures.
OF_NOISE = 5.0
LEAST_BEFORE = 3
#: What would help a rule that abstains, by how its reason begins.
HELP = {
    "too few": "more steps would help, and a lower start where the test ended early",
    "no loss it looks at is finite": "a lower start would help",
    "no finite loss": "a lower start would help, if the data and the model are right",
    "no minimum": "a lower start or more steps would help, if anything trains",
    "the lowest loss is at the first": "a lower start or more steps would help, if anything trains",
    "the accuracy rises": "more steps would help",
}


@dataclass(frozen=True)
class Suggestion(core_rules.Suggestion):
    """What ``rule`` says about a curve (:class:`lrrt.core.rules.Suggestion`).

    ``cautions``: what speaks against it, a clause each.
    """

    rule: str = ""
    cautions: tuple[str, ...] = ()

    @property
    def lr(self) -> float | None:
        """The one learning rate to train at, ``max_lr``, or ``min_lr`` where the rule gives no
        other; None where it abstained."""
        return self.min_lr if self.max_lr is None else self.max_lr

    def __str__(self) -> str:
        if self.lr is None:
            return f"{self.rule}: no suggestion; {self.reason}"
        if self.min_lr is not None and self.max_lr is not None:
            words = f"{self.rule}: min {self.min_lr:.2g}, max {self.max_lr:.2g}"
        else:
            words = f"{self.rule}: {self.lr:.2g}"
        return words + (f" ({'; '.join(self.cautions)})" if self.cautions else "")


@dataclass(frozen=True, eq=False)
class Curve(core_curve.Curve):
    """A range test's raw record, one value per step (:class:`lrrt.core.curve.Curve`).

    ``Curve(lr=..., loss=...)`` makes one in memory. Values that were not measured are NaN
    (``grad_norm`` of Keras, ``val_loss`` between two validations); a ``penalty`` that is left out
    is 0.

    ``planned_lr``: the whole ramp, (planned steps,), of which ``lr`` is the beginning; None where
    unknown. ``stopped``: why the test ended before the ramp did, empty if it did not. ``notes``:
    what a reader must know, a sentence each. ``about``: how it was made.
    """

    penalty: np.ndarray | None = None
    grad_norm: np.ndarray | None = None
    planned_lr: np.ndarray | None = None
    stopped: str = ""
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("penalty", 0.0), ("grad_norm", math.nan)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.full(np.shape(self.lr), value))
        checked = core_curve.Curve(**{name: getattr(self, name) for name in COLUMNS})
        for name in COLUMNS:
            object.__setattr__(self, name, getattr(checked, name))
        if self.planned_lr is not None:
            planned = np.asarray(self.planned_lr, dtype=np.float64)
            if planned.ndim != 1 or len(planned) < len(self.lr):
                raise InputError(
                    "curve.planned_lr", planned.shape, f"at least the {len(self.lr)} steps of lr"
                )
            if not np.allclose(planned[: len(self.lr)], self.lr, rtol=1e-6, atol=0, equal_nan=True):
                raise InputError("curve.planned_lr", "another ramp", "one that begins with lr")
            object.__setattr__(self, "planned_lr", planned)
        lr = self.lr if self.planned_lr is None else self.planned_lr
        if not (np.isfinite(lr).all() and (lr > 0).all() and (np.diff(lr) >= 0).all()):
            raise InputError(
                "curve.lr", "values", "learning rates that are positive, finite and never fall"
            )

    def __len__(self) -> int:
        return len(self.lr)

    def recorded(self, penalty: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Learning rate and loss, each (planned steps,), as a rule wants them.

        Rules count trimmed steps from the planned number. So the steps that an early end left out
        are there, infinite (NaN after a NaN): a loss that high, which any rule stops at.
        ``penalty`` adds the L2 penalty to the loss.
        """
        loss = self.loss + self.penalty if penalty else self.loss
        if self.planned_lr is None or len(self.planned_lr) == len(loss):
            return self.lr.copy(), loss.copy()
        missing = len(self.planned_lr) - len(loss)
        rest = np.full(missing, math.nan if math.isnan(loss[-1]) else math.inf)
        lr = np.concatenate([self.lr, self.planned_lr[len(loss) :]])
        return lr, np.concatenate([loss, rest])

    def suggest(
        self,
        rule: str = rules.DEFAULT_RULE,
        *,
        penalty: bool = False,
        offset: float = 0.0,
        skip_begin: int | None = None,
        skip_end: int | None = None,
    ) -> Suggestion:
        """What ``rule`` says about the curve.

        Parameters
        ----------
        rule : str
            One of ``lrrt rules``.
        penalty : bool
            Whether it reads the loss with the L2 penalty.
        offset : float
            Added to the loss first, for a loss of zero or below (a log-likelihood): most rules end
            where the loss exceeds a multiple of its best. :attr:`needed_offset` is one that serves.
        skip_begin, skip_end : int, optional
            Steps to leave out at either end, instead of the rule's own (fastai 1's, the Lightning,
            torch-lr-finder and keras_lr_finder rules, and the blog's have some).

        Raises
        ------
        InputError
            If there is no such rule, or it has no such skips.
        """
        module = rules.find(rule)
        skips = _skips(rule, module, skip_begin, skip_end)
        if not (isinstance(offset, int | float | np.number) and math.isfinite(offset)):
            raise InputError("offset", offset, "a finite number")
        if not np.isfinite(self.loss).any():
            reason = f"no finite loss: {self.stopped}" if self.stopped else "no finite loss"
            return Suggestion(None, None, reason=_with_help(reason), rule=rule)
        cautions = []
        if not rules.reads_accuracy(rule):
            lr, loss = self.recorded(penalty)
            loss += offset
            found = asdict(module.suggest(lr, loss, **skips))
            cautions += [self.flaw] if self.flaw else []
            if found["stop_step"] is not None and loss[: found["stop_step"] + 1].min() <= 0:
                cautions.append(SIGNED)
            cautions += getattr(module, "cautions", lambda *_: [])(lr, loss)
        elif self.val_accuracy is not None:
            found = asdict(module.suggest(self.lr.copy(), self.val_accuracy.copy()))
        else:
            reason = "it reads the accuracy, and the curve has none: give the test validation data"
            if self.val_loss is not None:
                reason = (
                    "it reads the accuracy, and the validation gave none: that needs class labels, "
                    "in PyTorch no batch_loss, in Keras metrics=['accuracy']"
                )
            return Suggestion(None, None, reason=reason, rule=rule)
        found["reason"] = _with_help(found["reason"])
        if found["min_lr"] is None and found["max_lr"] is None:
            if self.stopped:
                found["reason"] += f" (the test ended early: {self.stopped})"
            elif CUT in map(general, cautions):
                found["reason"] += f" ({self.flaw})"
        if found["reason"] and SIGNED in cautions:
            found["reason"] += f" ({SIGNED})"
        if found["fallback"]:
            cautions.append(FALLBACK)
        if core_rules.Suggestion(**found).reversed:
            cautions.append(CROSSED)
        suggestion = Suggestion(**found, rule=rule, cautions=tuple(cautions))
        departure = self.about.get("rate_departure")
        unused = suggestion.lr is not None and suggestion.lr > self.about.get(
            "highest_rate", math.inf
        )
        if unused and departure not in cautions:
            suggestion = replace(suggestion, cautions=(*cautions, departure))
        return suggestion

    @cached_property
    def flaw(self) -> str:
        """Why its loss says nothing of learning rates; empty if it does."""
        planned = len(self) if self.planned_lr is None else len(self.planned_lr)
        found, departure = flaw_of(self.loss, planned), self.about.get("rate_departure")
        if departure and (found == STILL_FALLING or not self.about["highest_rate"]):
            return departure
        if found != CUT:
            return found
        step = int(np.isfinite(self.loss).argmin())
        return f"the loss was {self.loss[step]} at step {step}, LR {self.lr[step]:.2g}{BEFORE}"

    @property
    def needed_offset(self) -> float:
        """An offset for :meth:`suggest` by which the lowest smoothed loss becomes as large as the
        fall from the first; 0 for a loss that is positive throughout."""
        finite = self.smoothed()[np.isfinite(self.smoothed())]
        if not len(finite) or self.loss[np.isfinite(self.loss)].min() > 0:
            return 0.0
        lowest = float(finite.min())
        return max(float(finite[0]) - lowest, 1e-12) - lowest

    def compare(self, *, penalty: bool = False, offset: float = 0.0) -> dict[str, Suggestion]:
        """What each rule says, by its name."""
        return {name: self.suggest(name, penalty=penalty, offset=offset) for name in rules.names()}

    def smoothed(self) -> np.ndarray:
        """The loss under fastai's smoothing (EMA, 0.98, bias corrected), (steps,)."""
        return ema(self.loss)

    def plot(self, rule: str | None = rules.DEFAULT_RULE, ax=None):
        """Draw raw and smoothed loss over the learning rate, and what ``rule`` suggests.

        Parameters
        ----------
        rule : str or None
            None marks no suggestion.
        ax : matplotlib Axes, optional
            Drawn on; a new figure of pyplot's by default.

        Returns
        -------
        matplotlib Axes
        """
        try:
            from lrrt.report import style
        except ModuleNotFoundError as error:
            raise InputError(
                "plot", rule, f"drawn where `pip install 'lrrt[report]'` ran ({error})"
            ) from None
        suggestion = None if rule is None else self.suggest(rule)
        with style.project_style():
            if ax is None:
                import matplotlib.pyplot as plt

                ax = plt.figure(figsize=(7.2, 4.0)).add_subplot()
            draw(ax, self, suggestion)
        return ax

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain numbers, strings and lists (infinities and NaN as strings)."""
        values = {name: _plain(getattr(self, name)) for name in (*COLUMNS, "planned_lr")}
        return values | {
            "stopped": self.stopped,
            "notes": list(self.notes),
            "about": dict(self.about),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Curve":
        """The inverse of :meth:`to_dict`.

        Raises
        ------
        InputError
            If ``values`` is not from there.
        """
        try:
            arrays = {
                name: None if values.get(name) is None else np.array(values[name], dtype=float)
                for name in (*COLUMNS, "planned_lr")
            }
            about = dict(values.get("about", {}))
            if about.keys() & set(Departure._fields):
                about["rate_departure"] = str(about["rate_departure"])
                about["highest_rate"] = float(about["highest_rate"])
            return cls(
                **arrays,
                stopped=str(values.get("stopped", "")),
                notes=tuple(values.get("notes", ())),
                about=about,
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError("curve", "values", f"a curve of this package ({error})") from None

    def save(self, path: str | Path) -> Path:
        """Write it to ``path``, whole or not at all: ``.json`` (everything) or ``.csv`` (the
        columns ``step, lr, loss, ...``). ``lrrt suggest`` and :func:`lrrt.load` read both.

        Raises
        ------
        InputError
            For another suffix, or where no file can be written.
        """
        path = check_target("path", path, ".json", ".csv")
        if path.suffix.lower() == ".json":
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        else:
            text = self._csv()
        write_whole(path, text.encode())
        return path

    def _csv(self) -> str:
        named = [(name, getattr(self, name)) for name in COLUMNS]
        named = [(name, values) for name, values in named if values is not None]
        written = io.StringIO()
        table = csv.writer(written, lineterminator="\n")
        table.writerow(["step", *(name for name, _ in named)])
        table.writerows(
            [step, *map(float, row)]
            for step, row in enumerate(zip(*(values for _, values in named), strict=True))
        )
        return written.getvalue()

    def __repr__(self) -> str:
        end = f"; ended early: {self.stopped}" if self.stopped else ""
        return f"<Curve of {len(self)} steps, LR {self.lr[0]:.2g} to {self.lr[-1]:.2g}{end}>"


def general(caution: str) -> str:
    """A caution without what it says of one curve alone: one of ``FLAWS`` if it is a flaw."""
    return CUT if caution.endswith(BEFORE) else caution


def _with_help(reason: str) -> str:
    """A reason for an abstention, and what would help."""
    return reason + next((f"; {HELP[begin]}" for begin in HELP if reason.startswith(begin)), "")


def _skips(rule: str, module: ModuleType, begin: int | None, end: int | None) -> dict[str, int]:
    """Keyword arguments of a rule that leaves steps out at either end."""
    skips = {}
    parameters = inspect.signature(module.suggest).parameters
    for key, name, value in (("skip_begin", "skip_start", begin), ("skip_end", "skip_end", end)):
        if value is None:
            continue
        if name not in parameters:
            raise InputError(key, value, f"None for {rule}, which has its own way to trim")
        skips[name] = check_count(key, value, low=0)
    return skips


def flaw_of(loss: np.ndarray, planned: int) -> str:
    """Why the losses of a test of ``planned`` steps say nothing of learning rates, one of
    ``FLAWS``; empty if they do.

    The lowest median over a tenth of the planned steps, before any loss that is not finite, is
    compared with the median of all steps before it; the noise is that from step to step. Medians,
    so that no single spike counts as a fall or hides one.
    """
    width = max(5, planned // 10)
    finite = int(np.append(np.isfinite(loss), False).argmin())
    unfallen = NEVER_FELL if finite == len(loss) else CUT
    if finite <= width:
        return unfallen
    medians = np.median(sliding_window_view(loss[:finite], width), axis=1)
    lowest = int(medians.argmin())
    if lowest < LEAST_BEFORE:
        return unfallen
    changes = np.abs(np.diff(loss[: lowest + width]))
    noise = np.median(changes) / 0.6745 / math.sqrt(2)  # of a normal distribution
    before = np.median(loss[:lowest])
    chance = OF_NOISE * noise * math.sqrt(1 / width + 1 / lowest)
    if before - medians[lowest] <= max(chance, 1e-6 * abs(before)):
        return unfallen
    return STILL_FALLING if finite == planned and lowest == len(medians) - 1 else ""


def draw(ax, curve: Curve, suggestion: Suggestion | None = None) -> None:
    """Draw a curve on ``ax`` within the project's style."""
    from lrrt.report import style

    before = sum(line.get_label() == SMOOTHED for line in ax.get_lines())  # other curves
    colour = (style.TRAIN_COLOUR, *style.OTHER_COLOURS)[before % 4]
    finite = curve.loss[np.isfinite(curve.loss)]
    start = finite[: max(1, len(finite) // 10)]
    top = style.loss_axis(ax, start)
    if len(finite) and finite.min() < 0:  # a log-likelihood, say: zero is no floor
        low, high = float(finite.min()), float(np.median(start))
        top = high + 0.6 * max(high - low, abs(high), 1e-12)
        ax.set_ylim(low - 0.05 * (top - low), top)
    ax.plot(
        curve.lr,
        style.below(curve.loss, abs(top)),
        color=style.MUTED,
        linewidth=0.8,
        alpha=0.7,
        label="loss of each batch",
    )
    ax.plot(curve.lr, style.below(curve.smoothed(), abs(top)), color=colour, label=SMOOTHED)
    if curve.val_loss is not None:
        known = ~np.isnan(curve.val_loss)
        ax.plot(
            curve.lr[known],
            style.below(curve.val_loss[known], abs(top)),
            color=style.VALIDATION_COLOUR,
            marker=".",
            label="validation loss",
        )
    mark = {"color": colour if before else style.INK, "linewidth": 1.2}
    if suggestion is not None:
        words = textwrap.fill(str(suggestion), 60)
        if suggestion.lr is None:
            ax.plot([], [], linestyle="", label=words)
        else:
            ax.axvline(suggestion.lr, linestyle="--", label=words, **mark)
        if None not in (suggestion.min_lr, suggestion.max_lr):
            ax.axvline(suggestion.min_lr, linestyle=":", label="its minimum", **mark)
    elif not len(finite):
        ax.plot([], [], linestyle="", label="no finite loss")
    linear = curve.about.get("shape") == "linear"
    if linear:
        ax.set_xlabel("learning rate")
    else:
        style.log_axis(ax)
    ax.set_ylabel("loss")
    ax.legend(loc="upper left" if linear else "lower left")


def _plain(values: np.ndarray | None) -> list | None:
    if values is None:
        return None
    return [v if math.isfinite(v) else str(v) for v in values.tolist()]
