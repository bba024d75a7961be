"""A multilayer perceptron: ``depth`` hidden layers of ``width`` with ReLU, on flat images."""

import math
from dataclasses import dataclass

from lrrt.core.checks import check_range
from lrrt.core.network import Node
from lrrt.core.protocol import ModelSection


@dataclass
class Model(ModelSection):
    name: str = "mlp"
    depth: int = 2
    width: int = 64


def validate(model: Model) -> None:
    check_range("model.depth", model.depth, 0, 100)
    check_range("model.width", model.width, 1, 100_000)


def nodes(model: Model, shape: tuple[int, ...], classes: int) -> list[Node]:
    """Flatten, ``depth`` times dense and ReLU, dense."""
    validate(model)
    found = [Node("flatten", "flatten", ("input",), math.prod(shape), shape[-1])]
    for i in range(1, model.depth + 1):
        before = found[-1]
        found += [
            Node(f"dense{i}", "dense", (before.name,), model.width, before.channels),
            Node(f"relu{i}", "relu", (f"dense{i}",), model.width),
        ]
    last = found[-1]
    return [*found, Node("dense", "dense", (last.name,), classes, last.channels)]
