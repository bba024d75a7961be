"""ResNet v1 for small images, of depth 6n + 2 (8, 20, 56, ...), with 1x1 shortcuts.

He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2, with one difference,
the post's: where a stage changes shape the shortcut is a 1x1 convolution without batch norm, not
zero padding. Convolutions have no bias.
"""

from lrrt.core.network import Node
from lrrt.core.protocol import ModelConfig
from lrrt.errors import InputError


def validate(model: ModelConfig) -> None:
    """Raise :class:`InputError` unless depth is 6n + 2, 1202 at most, and width a multiple of 8.

    Other widths are refused because oneDNN's 1x1 convolutions on AVX2 (PyTorch 2.13) write past the
    end of their arrays in the backward pass where the input channels are no multiple of 8.
    """
    if not 8 <= model.depth <= 1202 or (model.depth - 2) % 6 != 0:
        raise InputError("model.depth", model.depth, "6n + 2: 8, 14, 20, ..., 56, ..., 1202")
    if not 8 <= model.width <= 1024 or model.width % 8 != 0:
        raise InputError("model.width", model.width, "a multiple of 8 from 8 to 1024")


def nodes(model: ModelConfig, channels: int, classes: int) -> list[Node]:
    """The network: a stem, three stages of (depth - 2) / 6 basic blocks, average pool, dense.

    Stages have ``width``, 2 and 4 times ``width`` channels; the second and third start with
    stride 2. A block is conv, batch norm, ReLU, conv, batch norm, plus the shortcut, ReLU.

    Parameters
    ----------
    channels, classes : int
        Of the images, and of the output (logits).

    Raises
    ------
    InputError
        If the depth is not 6n + 2.
    """
    validate(model)
    width = model.width
    found = [
        Node("stem_conv", "conv", ("input",), width, channels, kernel=3),
        Node("stem_norm", "batch_norm", ("stem_conv",), width, width),
        Node("stem_relu", "relu", ("stem_norm",), width),
    ]
    for stage in range(3):
        for block in range((model.depth - 2) // 6):
            found += _block(
                f"stage{stage + 1}_block{block + 1}",
                found[-1],
                channels=width * 2**stage,
                stride=2 if stage > 0 and block == 0 else 1,
            )
    last = found[-1]
    return [
        *found,
        Node("pool", "global_average_pool", (last.name,), last.channels),
        Node("dense", "dense", ("pool",), classes, last.channels),
    ]


def _block(name: str, before: Node, channels: int, stride: int) -> list[Node]:
    """A basic block after the node ``before``."""
    inputs, start = before.channels, before.name
    found = [
        Node(f"{name}_conv1", "conv", (start,), channels, inputs, kernel=3, stride=stride),
        Node(f"{name}_norm1", "batch_norm", (f"{name}_conv1",), channels, channels),
        Node(f"{name}_relu1", "relu", (f"{name}_norm1",), channels),
        Node(f"{name}_conv2", "conv", (f"{name}_relu1",), channels, channels, kernel=3),
        Node(f"{name}_norm2", "batch_norm", (f"{name}_conv2",), channels, channels),
    ]
    shortcut = start
    if stride != 1 or inputs != channels:
        shortcut = f"{name}_shortcut"
        found.append(Node(shortcut, "conv", (start,), channels, inputs, kernel=1, stride=stride))
    return [
        *found,
        Node(f"{name}_add", "add", (f"{name}_norm2", shortcut), channels),
        Node(f"{name}_relu2", "relu", (f"{name}_add",), channels),
    ]
