"""ResNet v1 for small images, of depth 6n + 2 (8, 20, 56, ...), with 1x1 shortcuts.

He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2, with one difference,
the post's: where a stage changes shape the shortcut is a 1x1 convolution without batch norm, not
zero padding. Convolutions have no bias.
"""

from dataclasses import dataclass

from lrrt.core.checks import check_range
from lrrt.core.network import Node
from lrrt.core.protocol import ModelSection
from lrrt.errors import InputError


@dataclass
class Model(ModelSection):
    """``width``: channels of the first of three stages. Without batch norm convolutions have a
    bias."""

    name: str = "resnet"
    depth: int = 8
    width: int = 16
    batch_norm: bool = True


def validate(model: Model) -> None:
    """Raise :class:`InputError` unless depth is 6n + 2, 1202 at most, and width 1024 at most."""
    if not 8 <= model.depth <= 1202 or (model.depth - 2) % 6 != 0:
        raise InputError("model.depth", model.depth, "6n + 2: 8, 14, 20, ..., 56, ..., 1202")
    check_range("model.width", model.width, 8, 1024)


def nodes(model: Model, shape: tuple[int, ...], classes: int) -> list[Node]:
    """The network: a stem, three stages of (depth - 2) / 6 basic blocks, average pool, dense.

    Stages have ``width``, 2 and 4 times ``width`` channels; the second and third start with
    stride 2. A block is conv, batch norm, ReLU, conv, batch norm, plus the shortcut, ReLU.

    Parameters
    ----------
    shape : tuple
        Of an image: height, width, channels.
    classes : int
        Logits.

    Raises
    ------
    InputError
        If the depth is not 6n + 2.
    """
    validate(model)
    width, norm = model.width, model.batch_norm
    stem = Node("stem_conv", "conv", ("input",), width, shape[-1], kernel=3, bias=not norm)
    found = [stem, *_norm("stem_norm", "stem_conv", width, norm)]
    found.append(Node("stem_relu", "relu", (found[-1].name,), width))
    for stage in range(3):
        for block in range((model.depth - 2) // 6):
            found += _block(
                f"stage{stage + 1}_block{block + 1}",
                found[-1],
                channels=width * 2**stage,
                stride=2 if stage > 0 and block == 0 else 1,
                norm=norm,
            )
    last = found[-1]
    return [
        *found,
        Node("pool", "global_average_pool", (last.name,), last.channels),
        Node("dense", "dense", ("pool",), classes, last.channels),
    ]


def _norm(name: str, before: str, channels: int, norm: bool) -> list[Node]:
    """A batch norm after the node ``before``, or none."""
    return [Node(name, "batch_norm", (before,), channels, channels)] if norm else []


def _block(name: str, before: Node, channels: int, stride: int, norm: bool) -> list[Node]:
    """A basic block after the node ``before``."""
    inputs, start = before.channels, before.name

    def conv(number: int, before: str, inputs: int, stride: int = 1) -> list[Node]:
        made = f"{name}_conv{number}"
        node = Node(made, "conv", (before,), channels, inputs, 3, stride, bias=not norm)
        return [node, *_norm(f"{name}_norm{number}", made, channels, norm)]

    found = conv(1, start, inputs, stride)
    found.append(Node(f"{name}_relu1", "relu", (found[-1].name,), channels))
    found += conv(2, f"{name}_relu1", channels)
    ends = found[-1].name
    shortcut = start
    if stride != 1 or inputs != channels:
        shortcut = f"{name}_shortcut"
        found.append(Node(shortcut, "conv", (start,), channels, inputs, kernel=1, stride=stride))
    return [
        *found,
        Node(f"{name}_add", "add", (ends, shortcut), channels),
        Node(f"{name}_relu2", "relu", (f"{name}_add",), channels),
    ]
