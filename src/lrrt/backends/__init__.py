"""The backends: the only modules that import a framework.

A backend is a module or package named after its framework with one function
``build(nodes, protocol, weights, *, precision="float32", threads=1, device="cpu") -> Network`` and
one, ``versions() -> dict[str, str]``; one that can train many small networks at once also has
``stack(nodes, protocol, weights, *, threads=1)`` (:mod:`lrrt.runs.stacked`). No study logic in
them. What every network can do is :class:`Network`; what some can do besides are the protocols
after it.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

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


@runtime_checkable
class Resumable(Protocol):
    """A training of it that was stopped goes on after its last finished epoch."""

    def state(self) -> dict[str, np.ndarray]:
        """Copies of its arrays and its optimiser's, by name."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Put a :meth:`state` back."""


@runtime_checkable
class Resident(Protocol):
    """It trains whole range tests on an accelerator, without a word from the host."""

    def resident(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        mean: np.ndarray,
        std: np.ndarray,
        plan: Any,
        lrs: np.ndarray,
    ) -> Callable[[int, int], Iterable[Step]]:
        """Put data and batch plan there; the function given trains steps ``first`` to ``last - 1``.

        They are counted from 0 and come in order. Each call stands for calls of ``step`` on the
        batches of the plan (:func:`lrrt.core.batches.apply`).
        """

    def validator(
        self, images: np.ndarray, labels: np.ndarray, statistics: str
    ) -> Callable[[], tuple[float, float]]:
        """Put the images there; the function given is ``evaluate``, up to rounding."""


@runtime_checkable
class Differentiable(Protocol):
    """Its framework differentiates twice at a bearable cost (torch's does)."""

    def curvature(self, images: np.ndarray, labels: np.ndarray, start: np.ndarray | None) -> Any:
        """Largest Hessian eigenvalue at the weights as they are, and nothing moved by it:
        ``eigenvalue``, ``vector`` (to start the next search from), ``products`` taken."""
