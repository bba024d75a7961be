"""How far to trust a range test on a model: many of them, over weights and orders."""

import contextlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lrrt import __version__
from lrrt.errors import InputError
from lrrt.finder import rules
from lrrt.finder.audit_result import Audit
from lrrt.finder.checks import check_count, check_target
from lrrt.finder.data import is_arrays
from lrrt.finder.frameworks import framework_of, keep_all_random, seed_all
from lrrt.finder.range_test import check_options, check_validated, range_test, trial
from lrrt.finder.verdict import FACTORS, LEAST_TRAIN_STEPS, VARIED, Trial, clearly_lower


def audit(
    make_model: Callable[..., Any],
    make_data: Callable[..., Any],
    *,
    runs: int = 10,
    rule: str = rules.DEFAULT_RULE,
    vary: str = "both",
    seed: int = 0,
    train_steps: int = 0,
    offset: float = 0.0,
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
        suggestion, at a tenth of it and at ten times it, at a constant learning rate.
    offset : float
        Added to the losses before the rule reads them, for losses of zero or below.
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
            for found in _growing(
                make_model, make_data, seeds, rule, vary, train_steps, offset, options
            ):
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
    offset: float,
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
        found = Audit(
            tuple(curves),
            *zip(*seeds[: run + 1], strict=True),
            rule,
            vary,
            about=about,
            offset=offset,
        )
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
    lowered = bool(finite and clearly_lower(last.mean(), first.mean()))
    return Trial(run, factor, lr, loss if finite else math.inf, lowered)


def _common(abouts: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {k: v for k, v in abouts[0].items() if all(a.get(k) == v for a in abouts)}
