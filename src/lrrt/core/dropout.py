"""Dropout's masks, drawn from the run's own seed: the same on every backend."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from lrrt.core.network import Node
from lrrt.core.random_streams import stream

STEPS = "dropout.steps"  # in the state of a network that has dropout


class Masks:
    """Of a network's dropout nodes, step after step; off but in a ``with masks.drawn():``.

    A mask depends on the node's name and seed and on ``steps``, the number of training steps taken
    (part of the network's state), so that a training that goes on from a checkpoint has the same.
    """

    def __init__(self, nodes: list[Node]):
        self.nodes = {node.name: node for node in nodes if node.operation == "dropout"}
        self.steps, self.on = 0, False

    @contextlib.contextmanager
    def drawn(self) -> Iterator[None]:
        """Training, within; outside nothing is dropped."""
        self.on = True
        try:
            yield
        finally:
            self.on = False

    def mask(self, name: str, shape: Sequence[int]) -> np.ndarray:
        """Factors of ``shape`` (images: NHWC), float32: 0 with the node's rate, else
        1 / (1 - rate)."""
        node = self.nodes[name]
        if not self.on:
            return np.ones(shape, np.float32)
        draws = stream(node.seed, f"dropout {name} {self.steps}").random(shape, dtype=np.float32)
        return (draws >= node.rate) / np.float32(1 - node.rate)

    def state(self) -> dict[str, np.ndarray]:
        """Nothing of a network without dropout."""
        return {STEPS: np.array(self.steps)} if self.nodes else {}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.steps = int(state.get(STEPS, 0))
