"""Random states that are put back on leaving: Python's, NumPy's, and generators of their kind."""

import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

#: Packages whose objects hold data, or code, but no state of a training.
STATELESS = (
    *("builtins", "numpy", "pandas", "pyarrow", "PIL", "threading", "_thread", "queue", "logging"),
    *("multiprocessing", "concurrent", "asyncio", "socket", "_io"),
    *("torch", "keras", "tensorflow", "jax", "jaxlib"),
)

#: Takes a function to be called on leaving: the callback of a contextlib.ExitStack, which calls
#: the last first, and each even if another fails.
Later = Callable[..., Any]


def keep_python_random(later: Later) -> None:
    """Python's and NumPy's global random states return on leaving."""
    python, numpy = random.getstate(), np.random.get_state()
    later(lambda: random.setstate(python))
    later(lambda: np.random.set_state(numpy))


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


def holds_state(value: Any) -> bool:
    """Whether ``value`` is an object with attributes that a training may change: no class,
    function, module of Python, or array of another package."""
    if isinstance(value, type | ModuleType) or callable(value) and not hasattr(value, "__dict__"):
        return False
    root, _, rest = type(value).__module__.partition(".")
    stateless = root in STATELESS and not rest.startswith(("utils.data", "amp", "optim"))
    return hasattr(value, "__dict__") and not stateless
