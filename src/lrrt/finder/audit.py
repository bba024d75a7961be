"""How far to trust a range test on a model: many of them, over weights and orders."""

import contextlib
import gc
import inspect
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lrrt import __version__
from lrrt.errors import InputError
from lrrt.finder import rules
from lrrt.finder.audit_result import Audit
from lrrt.finder.checks import MOST, check_count, check_flag, check_target
from lrrt.finder.curve import Curve
from lrrt.finder.data import is_arrays
from lrrt.finder.frameworks import (
    forget_traces,
    framework_of,
    keep_all_random,
    seed_all,
    with_trace,
)
from lrrt.finder.range_test import (
    check_options,
    check_ramp_of,
    check_validated,
    parameters,
    range_test,
    trial,
)
from lrrt.finder.verdict import (
    LEAST_TRAIN_STEPS,
    LR_FACTORS,
    SCHEDULES,
    VARIED,
    Trial,
    clearly_lower,
)
from lrrt.finder.workers import Early, Helpers, Unsent, one_thread, processes, quick_collections
from lrrt.runs.policies import one_cycle


def audit(
    make_model: Callable[..., Any],
    make_data: Callable[..., Any],
    *,
    runs: int = 10,
    rule: str = rules.DEFAULT_RULE,
    vary: str = "both",
    seed: int = 0,
    train_steps: int = 0,
    schedule: str = "constant",
    offset: float = 0.0,
    workers: int | None = None,
    progress: bool | None = None,
    save: str | Path | None = None,
    **options: Any,
) -> Audit:
    """Repeat the range test over weights and orders, and say how far to trust its answer.

    Audits in several threads of one process follow one another, since they seed its generators.

    Parameters
    ----------
    make_model : callable
        Makes a fresh model, called for each run and each short training after Python's,
        NumPy's and the framework's random states are seeded. Returns a compiled Keras model; or
        for PyTorch ``(model, optimizer)``, ``(model, optimizer, loss)``, or a mapping of arguments
        of :func:`lrrt.range_test`. If it has a parameter ``seed``, that is the run's.
    make_data : callable
        Makes the data, as :func:`lrrt.range_test` takes them, seeded likewise with the order's
        seed; or a mapping with ``data`` and, say, ``validation`` and ``batch_size``. Arrays are
        shuffled by the order's seed.
    runs : int
        How many range tests; a verdict needs at least 5.
    rule : str
        One of ``lrrt rules``.
    vary : str
        What differs from run to run: ``both``, or only ``weights`` or ``order``. The other then
        keeps the first seed.
    seed : int
        Run i has the seeds ``seed + i``.
    train_steps : int
        If not 0 (then at least 10), each run also trains for so many steps at the audit's
        suggestion, at a tenth of it and at ten times it.
    schedule : str
        Of the short trainings: ``constant``, ``one_cycle`` (up to that rate), or ``both``, since
        the best rate may differ.
    offset : float
        Added to the losses before the rule reads them, for losses of zero or below.
    workers : int, optional
        Processes that share the runs, this one among them; they change no bit. Default: one a
        core, where the runs take longer than the workers need to start: half a second with PyTorch
        on Linux without a GPU, where they are copies of this process, else about 3 seconds (10 with
        TensorFlow). ``make_model`` and ``make_data`` must depend on nothing but the seed. Workers
        that are no copies get them by value if no module has them. Where that cannot be, or a
        worker computes something else, is killed or does not answer, this process does the rest,
        and a line on standard error says so. PyTorch computes each run on one thread, however many
        processes there are.
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
    check_count("runs", runs, high=MOST)
    check_count("train_steps", train_steps, low=0, high=MOST)
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
    if schedule not in (*SCHEDULES, "both"):
        raise InputError("schedule", schedule, f"one of: {', '.join(SCHEDULES)}, both")
    if workers is not None:
        check_count("workers", workers)
    check_flag("progress", progress, optional=True)
    check_options(options, inspect.signature(audit).parameters)
    check_ramp_of(options)
    plan = _Plan(
        make_model,
        make_data,
        [(seed + i * (vary != "order"), seed + i * (vary != "weights")) for i in range(runs)],
        rule,
        vary,
        offset,
        train_steps,
        tuple(SCHEDULES) if schedule == "both" else (schedule,),
        options,
    )
    shown = sys.stderr.isatty() if progress is None else progress
    total = runs * (1 + len(LR_FACTORS) * len(plan.schedules) * bool(train_steps))
    bar = tqdm(total=total, bar_format=BAR, disable=not shown, leave=False)
    found = saved = None
    with ONE_AT_A_TIME, bar, contextlib.ExitStack() as stack:
        stack.enter_context(quick_collections())
        keep_all_random(stack.callback)
        stack.callback(forget_traces)
        bar.set_description_str(plan.progress(found))
        try:
            for found in plan.carry_out(workers):
                if save is not None:
                    found.save(save)
                    saved = found
                bar.set_description_str(plan.progress(found), refresh=False)
                bar.update(len(found.curves) + len(found.trials) - bar.n)
        except BaseException as error:
            finished = found if save is None else saved
            if finished is not None:
                where = "lost: --save audit.json (save='audit.json') would have kept it"
                if save is not None:
                    where = f"kept in {save}"
                error.add_note(f"finished: {plan.progress(finished)}; {where}")
            raise
    return found


ONE_AT_A_TIME = threading.RLock()  # audits in several threads would seed one generator in turns
BAR = "{desc} |{bar}| {elapsed}<{remaining}"


@dataclass(frozen=True)
class _Plan:
    """What an audit has to do: arguments of :func:`audit`, ``seeds`` of weights and order."""

    make_model: Callable
    make_data: Callable
    seeds: Sequence[tuple[int, int]]
    rule: str
    vary: str
    offset: float
    train_steps: int
    schedules: tuple[str, ...]
    options: Mapping[str, Any]
    last: list = field(default_factory=list)  # a weak reference to the model of the last run

    def progress(self, found: Audit | None) -> str:
        """How much of it is done: ``range tests 10/10, trainings 3/30``."""
        curves, trials = (0, 0) if found is None else (len(found.curves), len(found.trials))
        words = f"range tests {curves}/{len(self.seeds)}"
        if self.train_steps:
            total = len(self.seeds) * len(self.schedules) * len(LR_FACTORS)
            words += f", trainings {trials}/{total}"
        return words

    def carry_out(self, workers: int | None) -> Iterator[Audit]:
        """The audit so far: after each range test, then after the short trainings of each run."""
        rest = range(1, len(self.seeds))
        early = Early(workers, len(rest) + self.runs_of_trials)
        with contextlib.ExitStack() as stack:
            stack.push(lambda kind, *_: early.stop(amid_work=kind is not None))
            curves = {0: self.range_test(0, early.begin)}
            seconds = time.perf_counter() - early.begun
            yield self.audit(curves)
            helpers = self.helpers(early, seconds, curves[0])
            for run, curve in self.run_each(helpers, self.range_test, rest):
                curves[run] = curve
                yield self.audit(curves)
            found = self.audit(curves)
            if not self.train_steps or found.lr is None:
                return
            tried = self.run_each(helpers, self.trials, range(len(self.seeds)), found.lr)
            trials: dict[int, list[Trial]] = {}
            for run, made in tried:
                trials[run] = made
                yield replace(
                    found,
                    trials=tuple(t for run in sorted(trials) for t in trials[run]),
                    about=found.about | {"train_steps": self.train_steps},
                )

    @property
    def runs_of_trials(self) -> int:
        """Short trainings as so many range tests."""
        steps = self.train_steps * len(LR_FACTORS) * len(self.schedules) * len(self.seeds)
        default = parameters()["steps"].default
        return round(steps / self.options.get("steps", default))

    def helpers(self, early: Early, seconds: float, first: Curve) -> Any:
        """Worker processes that give the very numbers of this one; None where there are to be
        none, or cannot: then a line on standard error says why."""
        count = processes(early.workers, seconds, early.runs, early.copies)
        if count < 2:
            early.stop()
            asked = early.workers is not None and early.workers > 1 and early.runs > 0
            return self.alone("a daemonic process can start no others") if asked else None
        check = (("first_loss", 0), first.loss[0])
        try:
            return Helpers(self.do, count - 1, check, self.alone, early)
        except Unsent as error:
            early.stop()
            return self.alone(f"make_model or make_data cannot be sent to workers ({error})")

    @staticmethod
    def alone(reason: str) -> None:
        print(f"audit: on one core, since {reason}", file=sys.stderr)

    def run_each(
        self, helpers: Any, function: Callable, runs: Sequence[int], *more: Any
    ) -> Iterator:
        """Run and ``function(run, *more)`` for each run, as they end."""
        if helpers is None:
            yield from ((run, function(run, *more)) for run in runs)
            return
        tasks = [(function.__name__, run, *more) for run in runs]
        for number, result in helpers.results(tasks):
            yield runs[number], result

    def do(self, name: str, *arguments: Any) -> Any:
        """Call a method by its name."""
        return getattr(self, name)(*arguments)

    def audit(self, curves: Mapping[int, Curve]) -> Audit:
        """Of the runs that have been done, in their order."""
        runs = sorted(curves)
        weights_seeds, order_seeds = zip(*(self.seeds[run] for run in runs), strict=True)
        return Audit(
            tuple(curves[run] for run in runs),
            weights_seeds,
            order_seeds,
            self.rule,
            self.vary,
            about={"lrrt": __version__} | _common([curves[run].about for run in runs]),
            offset=self.offset,
        )

    def range_test(self, run: int, ready: Callable[[], None] | None = None) -> Curve:
        """``ready`` is called once its model is there."""
        made = self.arguments(run)
        check_validated(self.rule, made.get("validation"))
        if ready is not None:
            ready()
        with one_thread():
            return range_test(**{"verify": False} | made)  # the model is the run's alone

    def first_loss(self, run: int) -> float:
        made = self.arguments(run)
        with one_thread():
            return float(trial(made, np.array([made.get("start", 1e-7)]))[0][0])

    def trials(self, run: int, suggested: float) -> list[Trial]:
        """The short trainings of a run, around the suggestion."""
        found = []
        for schedule in self.schedules:
            for factor in LR_FACTORS:
                lr = suggested * factor
                lrs = np.full(self.train_steps, lr)
                if schedule == "one_cycle":
                    lrs = one_cycle.lrs(lr, self.train_steps)
                found.append(_trial(run, factor, lrs, schedule, self.arguments(run)))
        return found

    def arguments(self, run: int) -> dict[str, Any]:
        """Arguments of :func:`lrrt.range_test` for a run."""
        if "keras" in sys.modules:
            gc.collect()  # of the models before it, which know themselves
        with one_thread():
            made = _make(self.make_model, self.make_data, *self.seeds[run], self.options)
        if self.vary != "order" and self.last and self.last[0]() is made["model"]:
            raise InputError("make_model", "the same model again", "a new model from each call")
        self.last[:] = [weakref.ref(made["model"])]
        made["model"] = with_trace(made["model"])
        return made

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"last": []}  # a weak reference cannot be sent


def _make(
    make_model: Callable,
    make_data: Callable,
    weights_seed: int,
    order_seed: int,
    options: Mapping,
) -> dict[str, Any]:
    """Arguments of :func:`range_test` for one run, random states seeded for its order."""
    made = _call("make_model", make_model, weights_seed)
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
    data = _call("make_data", make_data, order_seed)
    if isinstance(data, dict) and "data" not in data:
        words = "batches, or a mapping with the key data"
        raise InputError("make_data", f"a mapping with {', '.join(map(str, data))}", words)
    arguments |= data if isinstance(data, Mapping) and "data" in data else {"data": data}
    arguments |= dict(options) | {"progress": False}
    if is_arrays(arguments.get("data")):
        arguments = {"seed": order_seed} | arguments
    check_options(arguments, inspect.signature(audit).parameters)
    return arguments


def _call(key: str, make: Callable, seed: int) -> Any:
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


def _trial(run: int, factor: float, lrs: np.ndarray, schedule: str, made: dict) -> Trial:
    with one_thread():
        losses, val_loss = trial(made, lrs)
    tenth = max(1, len(lrs) // 10)
    first, last = losses[:tenth], losses[-tenth:]
    loss = float(np.mean(last)) if val_loss is None else val_loss
    finite = np.isfinite(losses).all() and math.isfinite(loss)
    lowered = bool(finite and clearly_lower(last.mean(), first.mean()))
    return Trial(run, factor, float(lrs.max()), loss if finite else math.inf, lowered, schedule)


def _common(abouts: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {k: v for k, v in abouts[0].items() if all(a.get(k) == v for a in abouts)}
