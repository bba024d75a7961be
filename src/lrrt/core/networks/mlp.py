"""A multilayer perceptron on flat images: ``depth`` hidden layers of ``width`` with ReLU, then
dropout."""

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
    dropout: float = 0.0


def validate(model: Model) -> None:
    check_range("model.depth", model.depth, 0, 100)
    check_range("model.width", model.width, 1, 100_000)
    check_range("model.dropout", model.dropout, 0, 0.99)


def nodes(model: Model, shape: tuple[int, ...], classes: int) -> list[Node]:
    """Flatten, ``depth`` times dense, ReLU and dropout, dense."""
    validate(model)
    found = [Node("flatten", "flatten", ("input",), math.prod(shape), shape[-1])]
    for i in range(1, model.depth + 1):
        before = found[-1]
        found += [
            Node(f"dense{i}", "dense", (before.name,), model.width, before.channels),
            Node(f"relu{i}", "relu", (f"dense{i}",), model.width),
        ]
        if model.dropout:
            name = f"dropout{i}"
            found.append(Node(name, "dropout", (f"relu{i}",), model.width, rate=model.dropout))
    last = found[-1]
    return [*found, Node("dense", "dense", (last.name,), classes, last.channels)]
