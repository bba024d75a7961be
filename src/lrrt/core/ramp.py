"""The learning rate's way from its start to its end during a range test."""

import math

import numpy as np

from lrrt.core.protocol import Ramp
from lrrt.errors import InputError


def grid(ramp: Ramp, steps: int) -> np.ndarray:
    """The schedule's values, float64 of shape (steps,), whatever ``ramp.steps`` says.

    Value i is ``start * (end / start)**(i / last)`` or, linear, ``start + (end - start) * i /
    last``; ``last`` is ``steps - 1`` where ``ramp.end_at`` is ``"last"`` and ``steps`` where it is
    ``"after_last"``. A single value is ``start``.

    Raises
    ------
    InputError
        If ``steps`` is not positive.
    """
    if steps < 1:
        raise InputError("ramp.steps", steps, "at least 1")
    space = np.geomspace if ramp.shape == "exponential" else np.linspace
    return space(ramp.start, ramp.end, steps, endpoint=ramp.end_at == "last")


def geometric_grid(start: float, end: float, count: int) -> list[float]:
    """``count`` values from ``start`` to ``end`` at equal factors.

    Powers of Python's floats: those of ``np.geomspace`` depend on NumPy's version and on the
    processor in their last bits, and values that are part of a run's key must not.
    """
    logs = np.linspace(math.log10(start), math.log10(end), count).tolist()
    return [start, *(10.0**log for log in logs[1:-1]), end] if count > 1 else [start][:count]


def training_lrs(ramp: Ramp, steps: int) -> np.ndarray:
    """Learning rates that the batches train at, (steps,).

    :func:`grid` itself where ``ramp.pairing`` is ``"before"``. Where it is ``"after"``, value i is
    set once batch i is done, so batch i trains at value max(i - 1, 0).
    """
    values = grid(ramp, steps)
    if ramp.pairing == "after":
        values = np.concatenate([values[:1], values[:-1]])
    return values
