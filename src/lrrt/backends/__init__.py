"""The backends: the only modules that import a framework.

A backend is a module named after its framework with one function
``build(nodes, protocol, weights, *, precision="float32", threads=1, device="cpu") -> Network`` and
one, ``versions() -> dict[str, str]``. No study logic in them.

A network on an accelerator may also have ``resident(images, labels, mean, std, plan, lrs)``, which
puts the data and the batch plan there and gives a function ``train(first, last)``: it trains those
steps, counted from 0 and in order, and gives an iterable of their :class:`Step` values. It stands
for calls of ``step`` on the batches of the plan (:func:`lrrt.core.batches.apply`). And
``validator(images, labels, statistics)``, which puts those there and gives a function that
evaluates the network as it is at each call, like ``evaluate`` up to rounding.

One whose framework differentiates twice at a bearable cost (torch's) may have
``curvature(images, labels, start)``: the largest Hessian eigenvalue at the weights as they are, and
nothing moved by it.

A training that was stopped goes on after its last finished epoch where the network has ``state()``,
copies of its arrays and its optimiser's by name, and ``restore(state)``, which puts them back.
"""

from typing import NamedTuple, Protocol

import numpy as np


class Step(NamedTuple):
    """Of one training step, all taken before the update: mean data loss of the batch (nats), L2
    penalty added to it (0 where there is none), global gradient norm before clipping."""

    loss: float
    penalty: float
    grad_norm: float


class Network(Protocol):
    """A network with its optimiser state, living in a framework."""

    def step(self, images: np.ndarray, labels: np.ndarray, lr: float) -> Step:
        """Train one step on float32 images (batch, height, width, channels) and integer labels."""

    def evaluate(
        self, images: np.ndarray, labels: np.ndarray, statistics: str = "running"
    ) -> tuple[float, float]:
        """Mean loss (nats) and accuracy over float32 images, without touching the network.

        ``statistics``: ``running`` uses batch norm's running statistics (folded into the
        convolutions, in small batches); ``batch`` those of each batch of up to 512 images.
        """

    def export(self) -> dict[str, np.ndarray]:
        """Copies of all arrays under canonical names and layouts (:mod:`lrrt.core.network`)."""
