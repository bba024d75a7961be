"""What a framework offers the finder: one small interface, and the parts that need no framework."""

import importlib
import math
import os
import random
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from lrrt.errors import InputError

Batch = Any  # what the framework's adapter understands; mostly (inputs, targets)
#: Framework by the root package of a model's class; the first found counts (a Keras model on
#: Keras's PyTorch backend is a torch.nn.Module, too).
ROOTS = {"keras": "keras", "torch": "torch"}
#: Parameters of :func:`lrrt.range_test` for PyTorch only, and their defaults.
TORCH_DEFAULTS = {
    "batch_loss": None,
    "autocast": None,
    "scaler": None,
    "clip_norm": None,
    "keep_ratios": True,
}


class Step(NamedTuple):
    """Of one training step, taken before the update: mean loss of its batches, L2 penalty apart,
    global gradient norm before clipping (NaN where it is not measured)."""

    loss: float
    penalty: float
    grad_norm: float


class Session(Protocol):
    """A live model with its optimiser and its data, to be trained for some steps and put back.

    Opening one checks its parts and changes nothing.
    """

    data: Iterable[Batch]
    validation: Iterable[Batch] | None
    accumulate: int  # batches of one step
    notes: list[str]

    def prepare(self) -> None:
        """What a first step of training would make, and a test must not take for its own."""

    def random_kept(self) -> AbstractContextManager[None]:
        """On leaving, random states (Python, NumPy, framework, the data's own) are as before."""

    def model_kept(self) -> AbstractContextManager[None]:
        """On leaving, model and optimiser are as before; within, they can train."""

    def step(self, batches: list[Batch], lr: float) -> Step:
        """Train one step at ``lr``."""

    def evaluate(self) -> tuple[float, float]:
        """Mean loss and accuracy (NaN if there is none) on the validation batches, which leaves
        model and random states alone."""

    def about(self) -> dict[str, Any]:
        """What was tested, in plain words and numbers; the digest of its weights."""


def framework_of(model: Any) -> str:
    """``"torch"`` or ``"keras"``.

    Raises
    ------
    InputError
        If ``model`` is neither.
    """
    found = {cls.__module__.split(".")[0] for cls in type(model).__mro__}
    for root, framework in ROOTS.items():
        if root in found:
            return framework
    raise InputError(
        "model", type(model).__name__, "a torch.nn.Module, or a compiled model of Keras 3"
    )


def open_session(model: Any, **options: Any) -> Session:
    """A session of the model's framework; ``options`` are those of :func:`lrrt.range_test` that
    concern model and data. The framework is imported by whoever made the model."""
    module = importlib.import_module(f"lrrt.finder.{framework_of(model)}")
    return module.open_session(model, **options)


#: Takes a function to be called on leaving: the callback of a contextlib.ExitStack, which calls
#: the last first, and each even if another fails.
Later = Callable[..., Any]


def keep_python_random(later: Later) -> None:
    """Python's and NumPy's global random states return on leaving."""
    python, numpy = random.getstate(), np.random.get_state()
    later(lambda: random.setstate(python))
    later(lambda: np.random.set_state(numpy))


def keep_all_random(later: Later) -> None:
    """Those, and the global states of each framework that has been imported."""
    keep_python_random(later)
    if "torch" in sys.modules:
        importlib.import_module("lrrt.finder.torch_state").keep_torch_random(later)
    if "keras" in sys.modules:
        importlib.import_module("lrrt.finder.keras").keep_keras_random(later)


def keep_generator(thing: Any, later: Later) -> bool:
    """The state of a NumPy or Python generator returns on leaving; False if it is none."""
    if isinstance(thing, np.random.Generator):
        bits = thing.bit_generator
        state = bits.state
        later(lambda: setattr(bits, "state", state))
    elif isinstance(thing, np.random.RandomState):
        legacy = thing.get_state()
        later(lambda: thing.set_state(legacy))
    elif isinstance(thing, random.Random):
        python = thing.getstate()
        later(lambda: thing.setstate(python))
    else:
        return False
    return True


def seed_all(seed: int) -> set[str]:
    """Seed Python, NumPy and whichever of PyTorch and Keras has been imported; their names."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    loaded = {name for name in ("torch", "keras") if name in sys.modules}
    if "torch" in loaded:
        sys.modules["torch"].manual_seed(seed)
    if "keras" in loaded:
        sys.modules["keras"].utils.set_random_seed(seed % 2**32)
    return loaded


def check_above(key: str, value: Any, low: float) -> None:
    """Raise :class:`InputError` unless ``value`` is None or a finite number above ``low``."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if value is not None and not (number and low < value < math.inf):
        raise InputError(key, value, f"a number above {low}, or None")


def check_count(key: str, value: Any, low: int = 1) -> int:
    """``value`` as an int of at least ``low``, or an :class:`InputError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise InputError(key, value, f"an integer of at least {low}")
    return int(value)


def check_target(key: str, path: str | Path, suffix: str) -> None:
    """Raise :class:`InputError` unless a file that ends in ``suffix`` can be written there: it is
    to be after minutes of work."""
    target = Path(path).absolute()
    if target.suffix.lower() != suffix:
        raise InputError(key, str(path), f"a file name that ends in {suffix}")
    folder = next(parent for parent in target.parents if parent.exists())
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(key, str(path), "a file that can be written")
