"""A small convolutional network, with batch norm or without.

``depth`` blocks of a 3x3 convolution (with a bias where there is no batch norm), batch norm, ReLU;
all but the last end with a 2x2 max pool, and the channels double after each. Then the average over
the image, and a dense layer.
"""

from dataclasses import dataclass

from lrrt.core.checks import check_range
from lrrt.core.network import Node
from lrrt.core.protocol import ModelSection


@dataclass
class Model(ModelSection):
    """``width``: channels of the first block."""

    name: str = "cnn"
    depth: int = 3
    width: int = 16
    batch_norm: bool = True


def validate(model: Model) -> None:
    check_range("model.depth", model.depth, 1, 4)  # 8 pixels are 1 after three pools
    check_range("model.width", model.width, 1, 1024)


def nodes(model: Model, shape: tuple[int, ...], classes: int) -> list[Node]:
    validate(model)
    found: list[Node] = []
    before, inputs = "input", shape[-1]
    for i in range(1, model.depth + 1):
        width = model.width * 2 ** (i - 1)
        bias = not model.batch_norm
        found.append(Node(f"conv{i}", "conv", (before,), width, inputs, kernel=3, bias=bias))
        if model.batch_norm:
            found.append(Node(f"norm{i}", "batch_norm", (f"conv{i}",), width, width))
        found.append(Node(f"relu{i}", "relu", (found[-1].name,), width))
        if i < model.depth:
            pool = Node(f"pool{i}", "max_pool", (f"relu{i}",), width, kernel=2, stride=2)
            found.append(pool)
        before, inputs = found[-1].name, width
    return [
        *found,
        Node("pool", "global_average_pool", (before,), inputs),
        Node("dense", "dense", ("pool",), classes, inputs),
    ]
