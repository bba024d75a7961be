"""One range test on a live model."""

import contextlib
import difflib
import functools
import inspect
import itertools
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from lrrt import __version__
from lrrt.core.checks import check_ramp
from lrrt.core.protocol import Ramp
from lrrt.core.ramp import grid
from lrrt.errors import InputError
from lrrt.finder import rules
from lrrt.finder.checks import MOST, check_above, check_count, check_flag
from lrrt.finder.curve import Curve, Suggestion
from lrrt.finder.data import batch_length, digest, endless, is_stream, sample_shapes
from lrrt.finder.fingerprint import changed
from lrrt.finder.frameworks import open_session
from lrrt.finder.live_model import TORCH_DEFAULTS, Batch, Session, Step

STOP_SMOOTHING = 0.98
LEAST_STEPS = 10
MOST_SKIPPED = 1000  # batches in a row, by a trainer's step that returns no loss
#: What other finders call a parameter, where its nearest name here would be another or none.
OF_OTHERS = {
    "num_iter": "steps",
    "num_it": "steps",
    "num_training": "steps",
    "iterations": "steps",
    "min_lr": "start",
    "max_lr": "end",
    "step_mode": "shape",
    "mode": "shape",
    "diverge_th": "stop",
    "early_stop_threshold": "stop",
    "train_loader": "data",
    "dataloader": "data",
    "train_dataloader": "data",
    "val_loader": "validation",
    "val_data": "validation",
    "val_dataloader": "validation",
    "criterion": "loss",
    "bs": "batch_size",
}
#: Parameters of :func:`range_test` that a training at one rate has not.
OF_THE_TEST = ("start", "end", "steps", "shape", "stop", "validate_every", "progress", "verify")


def _hinting(test: Callable[..., Curve]) -> Callable[..., Curve]:
    """An unknown parameter is answered with the one that it may be (:func:`check_options`)."""

    @functools.wraps(test)
    def checked(*args: Any, **options: Any) -> Curve:
        check_options(options)
        return test(*args, **options)

    return checked


@_hinting
def range_test(
    model: Any,
    loss: Any = None,
    data: Any = None,
    optimizer: Any = None,
    *,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int = 100,
    shape: str = "exponential",
    stop: float | None = 4.0,
    batch_size: int | None = None,
    seed: int = 0,
    accumulate: int | None = None,
    validation: Any = None,
    validate_every: int = 1,
    progress: bool | None = None,
    keep: Any = (),
    batch_loss: Any = None,
    autocast: Any = None,
    scaler: Any = None,
    clip_norm: float | None = None,
    keep_ratios: bool = True,
    create_graph: bool = False,
    verify: bool | None = None,
) -> Curve:
    """Train for ``steps`` steps while the learning rate rises, record the losses, put all back.

    Weights, batch-norm statistics and all other buffers, training modes, gradients, optimiser
    state, learning rates, Python's, NumPy's and the framework's random states, and those of a
    DataLoader or a shuffled ``tf.data`` set are afterwards what they were, also after an error or
    Ctrl-C: the training that follows is, bit for bit, the one without this test. Schedules and
    the user's GradScaler are never touched. It works in the middle of a training. It costs
    one copy of what is put back, in main memory.

    Parameters
    ----------
    model : torch.nn.Module or compiled keras.Model
        A PyTorch model in evaluation mode is tested in training mode; submodules that are in
        evaluation mode inside a model in training mode (frozen batch norm) stay so.
    loss : callable, optional
        PyTorch: ``loss(model output, targets)``, a scalar tensor. None for a model that returns
        its loss, as Hugging Face's do. Keras: None, it has been compiled in.
    data : DataLoader, tf.data.Dataset, iterable of (inputs, targets), or arrays (x, y)
        Read again whenever it runs out, so that it may be shorter or longer than the test, or
        endless; a generator must suffice. Arrays need ``batch_size``, and ``seed`` draws their
        order; an autoencoder's are ``(x, x)``, and ``(x,)`` for a model that returns its loss.
        Keras also takes ``(x, y, sample weights)``, which ``fit`` makes of class weights:
        ``np.array(class_weights)[y]``. Inputs that are a tuple, list or mapping are given to a
        PyTorch model as arguments.
    optimizer : torch.optim.Optimizer, optional
        PyTorch: needed. Keras: None, it has been compiled in.
    start, end, steps, shape
        The ramp: ``exponential`` or ``linear``, from ``start`` at the first step to ``end`` at
        the last; at least 10 steps.
    stop : float or None
        End the test when the smoothed loss (EMA, 0.98, bias corrected) exceeds ``stop`` times its
        best, and for a loss that has been zero or below, when it has risen above its best by
        ``stop - 1`` times the larger of the best's size and the fall so far. None: never. A loss
        that is not finite ends it always. The curve says so, and is raw.
    accumulate : int, optional
        Batches of one step: their gradients and losses are averaged. Default: 1; Keras: the
        optimiser's ``gradient_accumulation_steps``, and nothing else.
    validation : as ``data``, optional
        Evaluated after every ``validate_every`` th step, whole, in evaluation mode.
    progress : bool, optional
        A progress bar on standard error. Default: if that is a terminal.
    keep : generators and objects, optional
        More to put back: random generators (Python's, NumPy's, PyTorch's) that the data use, Keras
        layers that augment them, anything with ``state_dict`` and ``load_state_dict``. A
        ``torch.nn.Module`` is put back as the model is. Modules, optimisers, generators and what
        has a state dict are found where ``loss``, ``batch_loss``, hooks and the methods of modules
        and data sets work with them: in closures, globals, partials, bound methods.
    batch_loss : callable, optional
        PyTorch, instead of ``loss``: ``batch_loss(model, batch)``, a scalar tensor.
    autocast : torch.dtype, optional
        PyTorch: compute model and loss under ``torch.autocast`` with this type.
    scaler : torch.amp.GradScaler, optional
        PyTorch: a copy of it scales the losses.
    clip_norm : float, optional
        PyTorch: the largest global gradient norm.
    keep_ratios : bool
        PyTorch: parameter groups keep the ratios of their learning rates, and the curve's LR is
        the largest of them; False gives all groups the same.
    create_graph : bool
        PyTorch: keep the graph of the gradients, which AdaHessian and its kind differentiate again.
    verify : bool, optional
        Compare model, optimiser, random states and the data's first batch before and after; a note
        of the curve and a warning name what was not put back. Default: by sums of bits, and the
        first batch only where no worker process nor an ``IterableDataset`` reads it, which costs
        about one step. True: by SHA-256, all of it. False: not at all.

    Returns
    -------
    Curve

    Raises
    ------
    InputError
        For a model, optimiser, loss or data that cannot be tested; all has been put back. Other
        errors of the model or the data come through as they are, all put back, too.
    """
    return run_range_test(open_session, locals())


def run_range_test(opening: Callable[..., Session], arguments: Mapping[str, Any]) -> Curve:
    """The range test of the session that ``opening`` makes of ``arguments``, which are those of
    :func:`range_test`; they are checked first."""
    known = parameters()
    of_test = {name: arguments.get(name, known[name].default) for name in OF_THE_TEST}
    start, end, steps, shape, stop, validate_every, progress, verify = of_test.values()
    of_model = {name: value for name, value in arguments.items() if name not in OF_THE_TEST}
    ramp = _ramp(start, end, steps, shape)
    validates = of_model.get("validation") is not None
    if check_count("validate_every", validate_every) > ramp.steps and validates:
        raise InputError("validate_every", validate_every, f"at most the {ramp.steps} steps")
    check_above("stop", stop, 1)
    check_flag("progress", progress, optional=True)
    check_flag("verify", verify, optional=True)
    session = opening(**of_model)
    session.prepare()
    before = {} if verify is False else session.fingerprint(bool(verify))
    curve = run(session, ramp, stop=stop, validate_every=validate_every, progress=progress)
    if verify is False:
        return curve
    different = changed(before, session.fingerprint(bool(verify)))
    if _reads_again(session, bool(verify)):
        with session.preserve_random_state():
            batch = digest(next(iter(session.data), None))
        if batch != curve.about["first_batch"]:
            different.append("the data's first batch")
    if not different:
        return curve
    note = f"Not put back by the test: {', '.join(different)}."
    warnings.warn(note, stacklevel=4)
    return replace(curve, notes=(*curve.notes, note))


@functools.cache
def parameters() -> Mapping[str, inspect.Parameter]:
    """Those of :func:`range_test`, by name."""
    return inspect.signature(range_test).parameters


def _reads_again(session: Session, whole: bool) -> bool:
    """Whether the order of the data is compared: it is the user's, can be read more than once, and
    costs little (else only if all is to be compared, ``whole``)."""
    data = session.data
    if session.own_data or hasattr(data, "__next__"):
        return False
    return whole or not (getattr(data, "num_workers", 0) or is_stream(data))


def check_options(given: Iterable[str], others: Iterable[str] = ()) -> None:
    """Raise :class:`InputError` for a name that is no parameter of :func:`range_test`; the message
    has the nearest of those and ``others``."""
    known = set(parameters())
    for name in sorted(set(given) - known):
        nearest = difflib.get_close_matches(name, sorted(known | set(others)), 1)
        nearest = [OF_OTHERS[name]] if name in OF_OTHERS else nearest
        homes = "lrrt.range_test" + " or lrrt.audit" * bool(others)
        hint = f"; the nearest is {nearest[0]}" if nearest else ""
        raise InputError("option", name, f"a parameter of {homes}{hint}")


def check_callback(epochs: Iterable[int], rule: str, options: Mapping[str, Any]) -> frozenset[int]:
    """The epochs of a callback; what can be said about its arguments before a training is."""
    rules.check(rule)
    check_options(options)
    check_validated(rule, options.get("validation"))
    check_ramp_of(options)
    given = list(epochs) if isinstance(epochs, Iterable) else []
    if not given or not all(isinstance(e, int | np.integer) and e >= 0 for e in given):
        raise InputError("epochs", epochs, "a sequence of epochs, counted from 0: (0,), say")
    return frozenset(given)


def check_validated(rule: str, validation: Any) -> None:
    """Raise :class:`InputError` for a rule that reads an accuracy which nothing would give."""
    if rules.reads_accuracy(rule) and validation is None:
        raise InputError("validation", None, f"data to validate on: {rule} reads the accuracy")


def lr_to_train_at(curve: Curve, suggestion: Suggestion, epoch: int) -> float | None:
    """What a callback is to train on at; None, to leave the rate, where the rule abstained or
    anything speaks against its suggestion. A line on standard error says which."""
    lr = None if suggestion.cautions else suggestion.lr
    against = "; ".join(suggestion.cautions) or suggestion.reason
    outcome = f"kept; {against}" if lr is None else f"{lr:.2g}"
    print(f"epoch {epoch}: LR {outcome} ({suggestion.rule})", file=sys.stderr)
    return lr


def check_reached(epochs: frozenset[int], total: int) -> None:
    """Raise :class:`InputError` if a training of ``total`` epochs comes to none of ``epochs``."""
    if min(epochs) >= total:
        raise InputError("epochs", sorted(epochs), f"below {total}, where this training ends")


def trial(arguments: Mapping[str, Any], lrs: np.ndarray) -> tuple[np.ndarray, float | None]:
    """:func:`train` with the arguments of :func:`range_test`."""
    given = {name: value for name, value in arguments.items() if name not in OF_THE_TEST}
    return train(open_session(**(TORCH_DEFAULTS | given)), lrs)


def check_ramp_of(options: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` unless ``options`` of :func:`range_test` make a ramp."""
    names = ("start", "end", "steps", "shape")
    _ramp(*(options.get(name, parameters()[name].default) for name in names))


def _ramp(start: float, end: float, steps: int, shape: str) -> Ramp:
    check_count("steps", steps, LEAST_STEPS, MOST)
    for key, value in (("start", start), ("end", end)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise InputError(key, value, "a positive number")
    if not isinstance(shape, str):
        raise InputError("shape", shape, "one of: exponential, linear")
    ramp = Ramp(start=float(start), end=float(end), steps=int(steps), shape=shape)
    check_ramp("range_test", ramp)
    return ramp


def run(
    session: Session,
    ramp: Ramp,
    *,
    stop: float | None = 4.0,
    validate_every: int = 1,
    progress: bool | None = None,
) -> Curve:
    """The range test of an open session; see :func:`range_test`."""
    planned = grid(ramp, ramp.steps)
    trained, validated, stopped = [], [], ""
    ended = Ended(stop)
    with _batches(session, ramp.steps) as batches, _bar(ramp.steps, progress) as bar:
        for index, lr in enumerate(planned.tolist()):
            trained.append(_step(session, batches, lr))
            bar.update()
            stopped = ended(trained[-1].loss)
            if stopped:
                stopped += f" at step {index}, LR {lr:.2g}"
            if session.validation is not None:
                due = (index + 1) % validate_every == 0 and math.isfinite(trained[-1].loss)
                validated.append(session.evaluate() if due else (math.nan, math.nan))
            if stopped:
                break
        departure = session.end(lr)
    columns = dict(zip(Step._fields, np.array(trained, dtype=np.float64).T, strict=True))
    if validated:
        columns["val_loss"], columns["val_accuracy"] = np.array(validated, dtype=np.float64).T
        if np.isnan(columns["val_accuracy"]).all():
            del columns["val_accuracy"]
    about = {
        "lrrt": __version__,
        "start": ramp.start,
        "end": ramp.end,
        "steps": ramp.steps,
        "shape": ramp.shape,
        "stop": None if stop is None else float(stop),
        "accumulate": session.accumulate,
        "batch_size": batches.length,
        "first_batch": batches.digest,
    }
    if departure is not None:
        about |= departure._asdict()
    return Curve(
        lr=planned[: len(trained)],
        **columns,
        planned_lr=planned,
        stopped=stopped,
        notes=tuple(session.notes),
        about=about | session.about(),
    )


def train(session: Session, lrs: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Losses of a step at each of ``lrs``, (steps,), NaN from the first on that is not finite; and
    the validation loss afterwards (None without validation). All is put back."""
    losses = np.full(len(lrs), math.nan)
    with _batches(session, len(lrs)) as batches:
        for index, lr in enumerate(lrs.tolist()):
            loss = _step(session, batches, lr).loss
            if not math.isfinite(loss):
                return losses, math.nan
            losses[index] = loss
        return losses, None if session.validation is None else session.evaluate()[0]


@contextlib.contextmanager
def _batches(session: Session, steps: int) -> Iterator["_Batches"]:
    """Within, a model that trains, and its batches; afterwards all as before."""
    session.prepare()
    with session.preserve_random_state():
        batches = endless(session.data, steps * session.accumulate, session.notes)
        first = next(batches)
        with session.preserve_model(), contextlib.closing(batches):
            source = itertools.chain([first], batches)
            yield _Batches(source, sample_shapes(first), batch_length(first), digest(first))


class _Batches(NamedTuple):
    source: Iterator[Batch]
    # Of the first batch:
    shapes: list
    length: int
    digest: str


def _step(session: Session, batches: _Batches, lr: float) -> Step:
    """One step; batches without a loss (a trainer may skip some) are followed by others."""
    for _ in range(MOST_SKIPPED):
        taken = list(itertools.islice(batches.source, session.accumulate))
        if (step := _take_step(session, batches, taken, lr)) is not None:
            return step
    raise InputError("data", f"{MOST_SKIPPED} batches without a loss", "batches that have one")


def _take_step(session: Session, batches: _Batches, taken: list[Batch], lr: float) -> Step | None:
    try:
        return session.step(taken, lr)
    except InputError:
        raise
    except Exception as error:
        # A model may well take samples of several shapes; only one that fails on them is reported.
        for batch in taken:
            if sample_shapes(batch) != batches.shapes:
                raise InputError(
                    "data",
                    sample_shapes(batch),
                    f"samples of a shape that the model takes, as the first: {batches.shapes} "
                    f"({str(error).splitlines()[0] if str(error) else type(error).__name__})",
                ) from error
        raise


class Ended:
    """Whether a loss ends the test: called with one after the other, it says why, or ""."""

    def __init__(self, stop: float | None):
        self.stop = stop
        self.count, self.average = 0, 0.0
        self.first = self.best = math.nan
        self.signed = False  # whether a loss was zero or below

    def __call__(self, loss: float) -> str:
        if not math.isfinite(loss):
            return f"the loss was {loss}"
        self.count += 1
        self.average = STOP_SMOOTHING * self.average + (1 - STOP_SMOOTHING) * loss
        smoothed = self.average / (1 - STOP_SMOOTHING**self.count)
        if self.count == 1:
            self.first = self.best = smoothed
        self.best = min(self.best, smoothed)
        self.signed |= loss <= 0
        if self.stop is None:
            return ""
        # Of a positive loss: smoothed > stop * best.
        size = max(abs(self.best), self.first - self.best) if self.signed else self.best
        if smoothed - self.best > (self.stop - 1) * size:
            return f"the smoothed loss exceeded {self.stop:g} times its best"
        return ""


def _bar(steps: int, progress: bool | None) -> tqdm:
    shown = sys.stderr.isatty() if progress is None else progress
    return tqdm(total=steps, desc="range test", unit="step", disable=not shown, leave=False)
