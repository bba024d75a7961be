"""How far to trust a range test on a model: many of them, over weights and orders."""

import contextlib
import inspect
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lrrt import __version__
from lrrt.analysis.statistics import median_interval
from lrrt.errors import InputError
from lrrt.files import write_whole
from lrrt.finder import rules
from lrrt.finder.curve import (
    DEFAULT_RULE,
    FLAWS,
    NEVER_FELL,
    Curve,
    Suggestion,
    flaw_of,
    general,
)
from lrrt.finder.data import is_arrays
from lrrt.finder.range_test import check_options, check_validated, range_test, trial
from lrrt.finder.session import (
    check_count,
    check_target,
    framework_of,
    keep_all_random,
    seed_all,
)

#: What varies from run to run.
VARIED = {
    "both": "new weights and a new order of the data in each run",
    "weights": "new weights in each run, always the same order of the data",
    "order": "the same weights in each run, a new order of the data",
}
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
FACTORS = (0.1, 1.0, 10.0)  # of the suggestion, for the short trainings

# The verdict's rules.
ENOUGH_RUNS = 5
LEAST_TRAIN_STEPS = 10
ABSTAINS_TOO_OFTEN = 0.25  # share of runs without a suggestion
USUAL_SHARE = 0.9  # of the runs, within the factor that a verdict names
CLOSE, LOOSE = 3.0, 10.0  # factors
CLEARLY_LOWER = 0.9  # a loss below this share of another is clearly lower


@dataclass(frozen=True)
class Trial:
    """A short training at ``factor`` times the audit's suggestion, from one run's weights and
    order. ``loss``: of validation data, else the mean of the last tenth of its steps; infinite if
    a loss was not finite. ``lowered``: whether the last tenth's losses were clearly lower than the
    first's."""

    run: int
    factor: float
    lr: float
    loss: float
    lowered: bool = True


@dataclass(frozen=True, eq=False)
class Audit:
    """Range tests of one model over ``runs`` runs, and what they say together.

    ``rule`` is the one that the verdict is about; the curves are there for any other
    (:meth:`by_rule`). Learning rates are compared in log10.
    """

    curves: tuple[Curve, ...]
    weights_seeds: tuple[int, ...]
    order_seeds: tuple[int, ...]
    rule: str = DEFAULT_RULE
    vary: str = "both"
    trials: tuple[Trial, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def suggestions(self) -> tuple[Suggestion, ...]:
        """The rule's suggestion of each run."""
        return tuple(curve.suggest(self.rule) for curve in self.curves)

    @cached_property
    def summary(self) -> "Summary":
        return summarise(self.rule, self.suggestions)

    def by_rule(self) -> list["Summary"]:
        """The same for every rule, those of the least spread first."""
        compared = [curve.compare() for curve in self.curves]
        found = [summarise(rule, [c[rule] for c in compared]) for rule in compared[0]]
        worst = math.inf
        return sorted(
            found, key=lambda s: (s.abstained, s.spread if s.spread == s.spread else worst)
        )

    @property
    def lr(self) -> float | None:
        """What to train at, the median of the runs' suggestions."""
        return self.summary.median

    @cached_property
    def verdict(self) -> tuple[str, ...]:
        """What to make of it, a sentence each; the first is the verdict."""
        losses = [curve.loss for curve in self.curves]
        repeated = all(np.array_equal(losses[0], loss, equal_nan=True) for loss in losses)
        # Noise that hides a fall in each of a few short runs does not hide it in all together.
        shortest = min(map(len, losses))
        flaw = flaw_of(
            np.mean([loss[:shortest] for loss in losses], axis=0),
            len(self.curves[0].recorded()[0]),
        )
        unvaried = [UNVARIED[what][1] for what in self.unvaried]
        if repeated and len(losses) > 1:
            unvaried = [
                f"all {len(losses)} runs have the very same losses, so that nothing varied; "
                "make_model or make_data give the same whatever the seed"
            ]
        return tuple(verdict(self.summary, self.trials, flaw, unvaried))

    @property
    def unvaried(self) -> tuple[str, ...]:
        """What of order and weights was to vary, and did not."""
        return tuple(
            what
            for what, (told, _) in UNVARIED.items()
            if len(self.curves) > 1 and self.vary in ("both", what) and told in self.about
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain numbers, strings and lists."""
        return {
            "verdict": list(self.verdict),
            "rule": self.rule,
            "vary": self.vary,
            "summary": self.summary.to_dict(),
            "rules": [summary.to_dict() for summary in self.by_rule()],
            "trials": [{**vars(t), "loss": _plain(t.loss)} for t in self.trials],
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
                trials=tuple(
                    Trial(**{**t, "lr": float(t["lr"]), "loss": float(t["loss"])})
                    for t in values["trials"]
                ),
                about=dict(values["about"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError("audit", "values", f"an audit of this package ({error})") from None
        if not made.curves:
            raise InputError("audit.runs", [], "at least one run")
        if made.vary not in tuple(VARIED):
            raise InputError("audit.vary", made.vary, f"one of: {', '.join(VARIED)}")
        factors = [trial.factor for trial in made.trials]
        tried = len(factors) // len(FACTORS)  # runs; all of them once the audit has ended
        whole = factors == [*FACTORS] * tried and tried <= len(made.curves)
        if factors and not (whole and "train_steps" in made.about):
            raise InputError(
                "audit.trials",
                f"{len(factors)} trials",
                f"{len(FACTORS)} of each run, and about.train_steps, or none",
            )
        return made

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, whole or not at all; :meth:`load` reads it."""
        path = Path(path)
        if path.suffix.lower() != ".json":
            raise InputError("path", str(path), "a file name that ends in .json")
        write_whole(path, json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Audit":
        try:
            values = json.loads(Path(path).read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise InputError("file", str(path), f"a saved audit ({error})") from None
        return cls.from_dict(values)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML page, whole or not at all."""
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise InputError("path", str(path), "a file name that ends in .html")
        try:
            from lrrt.finder.audit_page import page
        except ModuleNotFoundError as error:
            raise InputError(
                "report", str(path), f"written where `pip install 'lrrt[report]'` ran ({error})"
            ) from None
        write_whole(path, page(self).encode())
        return path

    def __str__(self) -> str:
        return "\n".join([str(self.summary), *self.verdict])


@dataclass(frozen=True)
class Summary:
    """A rule's suggestions over runs. ``values``: the learning rates of those that have one.

    ``spread``: decades between the smallest and the largest; ``factor``: the factor around the
    median that holds :data:`USUAL_SHARE` of them; ``low``, ``high``: 95 % bootstrap interval of
    the median, in log10; ``cautions``: in how many runs each speaks against it.
    """

    rule: str
    runs: int
    values: tuple[float, ...]
    fallbacks: int
    reasons: tuple[str, ...]  # of the abstentions
    median: float | None
    low: float
    high: float
    spread: float
    factor: float
    cautions: Mapping[str, int] = field(default_factory=dict)

    @property
    def abstained(self) -> int:
        return self.runs - len(self.values)

    def to_dict(self) -> dict[str, Any]:
        plain = {name: _plain(value) for name, value in vars(self).items()}
        return plain | {"abstained": self.abstained}

    def __str__(self) -> str:
        if self.median is None:
            return f"{self.rule}: no suggestion in {self.runs} runs"
        interval = "" if math.isnan(self.low) else f" [{self.low:.2g}, {self.high:.2g}]"
        return (
            f"{self.rule}: {self.median:.2g}{interval}, {self.spread:.2f} decades apart, "
            f"{self.abstained} of {self.runs} runs without a suggestion"
        )


def summarise(rule: str, suggestions: Any) -> Summary:
    """The :class:`Summary` of one rule's suggestions, one per run."""
    suggestions = list(suggestions)
    values = [s.lr for s in suggestions if s.lr is not None and 0 < s.lr < math.inf]
    logs = np.log10(values)
    median = float(np.median(logs)) if values else math.nan
    low, high = median_interval(np.array(values))
    return Summary(
        rule=rule,
        runs=len(suggestions),
        values=tuple(values),
        fallbacks=sum(s.fallback for s in suggestions),
        reasons=tuple(s.reason for s in suggestions if s.lr is None),
        median=10**median if values else None,
        low=low,
        high=high,
        spread=float(np.ptp(logs)) if values else math.nan,
        factor=float(10 ** np.quantile(abs(logs - median), USUAL_SHARE)) if values else math.nan,
        cautions=dict(Counter(general(caution) for s in suggestions for caution in s.cautions)),
    )


def verdict(
    summary: Summary,
    trials: Sequence[Trial] = (),
    flaw: str = "",
    unvaried: Sequence[str] = (),
) -> list[str]:
    """What to make of a rule's suggestions, by the rules above: the verdict and its reasons.

    ``flaw``: what is wrong with the runs' mean loss, if anything, which counts where most single
    runs have one, too; ``unvaried``: what was to vary from run to run and did not, a clause each.
    """
    n, valid, cautions = summary.runs, len(summary.values), summary.cautions
    flawed = flaw and sum(cautions.get(of_one, 0) for of_one in FLAWS) > n / 2
    told = [
        f"In {k} of {n} runs {caution}." + " Over all runs it fell." * (caution == NEVER_FELL)
        for caution, k in cautions.items()
        if not (flawed and caution in FLAWS)
    ]
    reason = "".join(f": {most}" for most, _ in Counter(summary.reasons).most_common(1))
    if not valid:
        return [f"Do not trust it: the rule found nothing in any of {n} runs{reason}.", *told]
    reasons = [
        f"{100 * USUAL_SHARE:.0f} % of the runs lie within a factor of {summary.factor:.2g} of the "
        f"median, {summary.median:.2g}; the furthest two are {summary.spread:.2f} decades apart."
    ]
    against, tried = tried_out(trials)
    reasons += tried
    reasons += told
    if flawed or unvaried:
        clauses = [*[flaw] * bool(flawed), *unvaried]
        return [*(f"Do not trust it: {clause}." for clause in clauses), *reasons]
    if n < ENOUGH_RUNS:
        return [f"Too few runs to say: {n}; a verdict needs {ENOUGH_RUNS}.", *reasons]
    if summary.abstained > ABSTAINS_TOO_OFTEN * n:
        found = (
            f"Do not trust it: the rule found nothing in {summary.abstained} of {n} runs{reason}."
        )
    elif summary.factor > LOOSE:
        found = (
            f"Do not trust it: one run's suggestion may be {summary.factor:.0f} times too high or "
            "too low."
        )
    elif against:
        found = "Do not trust it: it repeats well enough, but short trainings speak against it."
    else:
        found = f"Trust it to within a factor of {max(summary.factor, 1.1):.2g}"
        if summary.factor > CLOSE:
            found = f"Trust its order of magnitude only, {found[len('Trust it ') :]}"
        if summary.abstained:
            found += f", where it answers: not in {summary.abstained} of {n} runs"
        found += "."
    if not trials:
        reasons.append("This is how well it repeats; whether it trains well, trainings would say.")
    return [found, *reasons]


def tried_out(trials: Sequence[Trial]) -> tuple[bool, list[str]]:
    """Whether short trainings at and around the suggestion speak against it, and how."""
    losses = {f: np.array([t.loss for t in trials if t.factor == f]) for f in FACTORS}
    at, n = losses[1.0], len(losses[1.0])
    if not n:
        return False, []
    against, sentences = False, []
    failed = int((~np.isfinite(at)).sum())
    if failed:
        against = failed > n / 2
        sentences.append(
            f"Trained at the suggestion, the loss ended up not finite in {failed} of {n} runs."
        )
    for factor, words, wrong in ((0.1, "a tenth of", "high"), (10.0, "ten times", "low")):
        with np.errstate(invalid="ignore"):
            lower = _clearly_lower(losses[factor], at)
        better = int((np.isfinite(losses[factor]) & (lower | ~np.isfinite(at))).sum())
        if better > n / 2:
            against = True
            sentences.append(
                f"Short trainings at {words} it reached a clearly lower loss in {better} of {n} "
                f"runs: for them it is too {wrong}."
            )
    if not against and not any(trial.lowered for trial in trials):
        sentences.append("No short training lowered the loss clearly: they say nothing about it.")
    elif not against:
        sentences.append(
            "Short trainings bear it out: neither a tenth of it nor ten times it was clearly "
            f"better in most of {n} runs."
        )
    return against, sentences


def _clearly_lower(loss: Any, other: Any) -> Any:
    return loss < other - (1 - CLEARLY_LOWER) * np.abs(other)


def audit(
    make_model: Callable[..., Any],
    make_data: Callable[..., Any],
    *,
    runs: int = 10,
    rule: str = DEFAULT_RULE,
    vary: str = "both",
    seed: int = 0,
    train_steps: int = 0,
    progress: bool | None = None,
    save: str | Path | None = None,
    **options: Any,
) -> Audit:
    """Repeat the range test over weights and orders, and say how far to trust its answer.

    Parameters
    ----------
    make_model : callable
        Makes a fresh model, called once for each run, and for each short training, after Python's,
        NumPy's and the framework's random states are seeded. Returns a compiled Keras model; or
        for PyTorch ``(model, optimizer)``, ``(model, optimizer, loss)``, or a mapping of arguments
        of :func:`lrrt.range_test`. If it has a parameter ``seed``, that is the run's.
    make_data : callable
        Makes the data, as :func:`lrrt.range_test` takes them, seeded likewise with the order's
        seed; or a mapping with ``data`` and, say, ``validation`` and ``batch_size``. Arrays are
        shuffled by the order's seed.
    runs : int
        A verdict needs at least 5.
    rule : str
        One of ``lrrt rules``.
    vary : str
        ``both``, or only ``weights`` or ``order``: the other then keeps the first seed.
    seed : int
        Run i has the seeds ``seed + i``.
    train_steps : int
        If not 0 (then at least 10), each run also trains for so many steps at the audit's
        suggestion, at a tenth of it and at ten times it, at a constant learning rate.
    progress : bool, optional
        A progress bar on standard error. Default: if that is a terminal.
    save : path, optional
        A ``.json`` to write the audit so far to after each run, as :meth:`Audit.save` does: what is
        finished outlives Ctrl-C or a run that fails, whose message then says where it is.
    **options
        As of :func:`lrrt.range_test`, for all runs.

    Raises
    ------
    InputError
        As :func:`lrrt.range_test`.
    """
    if save is not None:
        check_target("save", save, ".json")
    check_count("runs", runs)
    check_count("train_steps", train_steps, low=0)
    if 0 < train_steps < LEAST_TRAIN_STEPS:
        raise InputError("train_steps", train_steps, f"0, or at least {LEAST_TRAIN_STEPS}")
    if check_count("seed", seed, low=0) + runs > 2**63:
        raise InputError("seed", seed, "below 2**63, as frameworks take it")
    rules.check(rule)
    if vary not in VARIED:
        raise InputError("vary", vary, f"one of: {', '.join(VARIED)}")
    for key, value in (("make_model", make_model), ("make_data", make_data)):
        if not callable(value):
            raise InputError(key, type(value).__name__, "a function")
    weights_seeds = tuple(seed + i * (vary != "order") for i in range(runs))
    order_seeds = tuple(seed + i * (vary != "weights") for i in range(runs))
    shown = sys.stderr.isatty() if progress is None else progress
    total = runs * (1 + len(FACTORS) * bool(train_steps))
    bar = tqdm(total=total, desc="audit", unit="run", disable=not shown, leave=False)
    saved = None
    with bar, contextlib.ExitStack() as stack:
        keep_all_random(stack.callback)
        seeds = list(zip(weights_seeds, order_seeds, strict=True))
        try:
            for found in _growing(make_model, make_data, seeds, rule, vary, train_steps, options):
                if save is not None:
                    found.save(save)
                    saved = found
                bar.update(len(found.curves) + len(found.trials) - bar.n)
        except BaseException as error:
            if saved is not None:
                tried = f", {len(saved.trials) // len(FACTORS)} with short trainings"
                done = f"{len(saved.curves)} of {runs} runs{tried * bool(train_steps)}"
                error.add_note(f"finished: {done}; they are in {save}")
            raise
    return found


def _growing(
    make_model: Callable,
    make_data: Callable,
    seeds: Sequence[tuple[int, int]],
    rule: str,
    vary: str,
    train_steps: int,
    options: Mapping,
) -> Iterator[Audit]:
    """The audit so far: after each run, then after the short trainings of each."""
    curves, model = [], None
    for run, pair in enumerate(seeds):
        made = _made(make_model, make_data, *pair, options)
        if made["model"] is model and vary != "order":
            raise InputError("make_model", "the same model again", "a new one from each call")
        model = made["model"]
        check_validated(rule, made.get("validation"))
        curves.append(range_test(**made))
        about = {"lrrt": __version__} | _common([curve.about for curve in curves])
        found = Audit(tuple(curves), *zip(*seeds[: run + 1], strict=True), rule, vary, about=about)
        yield found
    if not train_steps or found.lr is None:
        return
    trials = []
    for run, pair in enumerate(seeds):
        for factor in FACTORS:
            made = _made(make_model, make_data, *pair, options)
            trials.append(_trial(run, factor, found.lr * factor, train_steps, made))
        about = found.about | {"train_steps": train_steps}
        yield replace(found, trials=tuple(trials), about=about)


def _made(
    make_model: Callable, make_data: Callable, weights_seed: int, order_seed: int, options: Mapping
) -> dict[str, Any]:
    """Arguments of :func:`range_test` for one run, random states seeded for its order."""
    made = _called("make_model", make_model, weights_seed)
    if isinstance(made, Mapping):
        arguments = dict(made)
    elif isinstance(made, tuple):
        if not 1 <= len(made) <= 3:
            raise InputError(
                "make_model",
                f"{len(made)} values",
                "(model, optimizer) or (model, optimizer, loss)",
            )
        arguments = dict(zip(("model", "optimizer", "loss"), made, strict=False))
    else:
        arguments = {"model": made}
    framework_of(arguments.get("model"))
    data = _called("make_data", make_data, order_seed)
    arguments |= data if isinstance(data, Mapping) and "data" in data else {"data": data}
    arguments |= dict(options) | {"progress": False}
    if is_arrays(arguments.get("data")):
        arguments = {"seed": order_seed} | arguments
    check_options(arguments, inspect.signature(audit).parameters)
    return arguments


def _called(key: str, make: Callable, seed: int) -> Any:
    """What ``make`` makes, all random states seeded; a framework that it is the first to import is
    seeded, too."""
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # some of those written in C have none
        signature = inspect.Signature()
    arguments = {"seed": seed} if "seed" in signature.parameters else {}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError(
            key, f"of {signature}", f"a function that needs at most a seed ({error})"
        ) from None
    loaded = seed_all(seed)
    try:
        made = make(**arguments)
        return made if seed_all(seed) == loaded else make(**arguments)
    except Exception as error:
        error.add_note(f"{key} failed, called with random states of seed {seed}")
        raise


def _trial(run: int, factor: float, lr: float, steps: int, made: dict[str, Any]) -> Trial:
    losses, val_loss = trial(made, lr, steps)
    tenth = max(1, steps // 10)
    first, last = losses[:tenth], losses[-tenth:]
    loss = float(np.mean(last)) if val_loss is None else val_loss
    finite = np.isfinite(losses).all() and math.isfinite(loss)
    lowered = bool(finite and _clearly_lower(last.mean(), first.mean()))
    return Trial(run, factor, lr, loss if finite else math.inf, lowered)


def _common(abouts: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {k: v for k, v in abouts[0].items() if all(a.get(k) == v for a in abouts)}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
