"""The rate at which one step first makes the loss of its own batch worse.

After Kalra and Barkeshli ("Why warmup the learning rate?", 2024, arXiv 2406.09405), who start a
warm-up there: the rate is doubled until one step raises the loss, and the last doubling is halved
in log LR. Some 25 trials of two passes each, from 1e-6; no ramp, so no lag. It knows the first step
only: momentum and Adam's averages have not begun, and a network's curvature changes in training.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

#: A loss that rises by less than this share is taken for rounding.
ROUNDING = 1e-6


def search(
    losses: Callable[[float], tuple[float, float]], start: float, end: float, halvings: int
) -> float | None:
    """The lowest rate, from ``start`` up, whose step raises the loss.

    Parameters
    ----------
    losses : callable
        From a rate to the loss of a batch before and after one step at it, each time from the same
        weights. A loss afterwards that is not finite has risen.
    halvings : int
        Each halves the factor of 2 between the rates on either side, in its logarithm.

    Returns
    -------
    float or None
        The geometric middle of the last two; None where ``start`` raises the loss already, or no
        rate up to ``end`` does.
    """

    def rises(lr: float) -> bool:
        before, after = losses(lr)
        return not after <= before + ROUNDING * abs(before)

    stable, unstable = None, start
    while not rises(unstable):
        stable, unstable = unstable, 2 * unstable
        if stable >= end:
            return None
    if stable is None:
        return None
    for _ in range(halvings):
        middle = math.sqrt(stable * unstable)
        stable, unstable = (stable, middle) if rises(middle) else (middle, unstable)
    return math.sqrt(stable * unstable)


def of_network(
    network: Any,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    start: float = 1e-6,
    end: float = 1e3,
    halvings: int = 4,
) -> float | None:
    """:func:`search` on a batch of a backend's network (:class:`lrrt.backends.Resumable`).

    The network is afterwards as it was.
    """
    state = network.state()

    def losses(lr: float) -> tuple[float, float]:
        network.restore(state)
        taken = [network.step(images, labels, lr) for _ in range(2)]
        before, after = (step.loss + step.penalty for step in taken)
        return before, after

    try:
        return search(losses, start, end, halvings)
    finally:
        network.restore(state)
