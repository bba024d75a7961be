"""A network as data: a list of nodes that every backend builds, and the parameters it has.

Parameters have canonical names ``<node>.<parameter>`` and canonical layouts: convolution kernels
are (height, width, in, out), dense kernels (in, out), embeddings (entries, channels), everything
else a vector.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

# Of images (NHWC), of vectors, and of tokens (batch, tokens, channels): ``dense`` and the norms act
# on the last axis. ``embedding`` reads a row of its table for each token, ``position`` adds its
# row i to token i, ``attention`` is causal and scaled by 1 / sqrt(channels of a head), its inputs
# are queries, keys and values. ``max_pool`` leaves out what does not fill a window. ``gelu`` is the
# exact one. ``dropout`` acts in training steps alone (:mod:`lrrt.core.dropout`). ``module`` is a
# whole network that a backend alone can build.
Operation = Literal[
    "conv",
    "batch_norm",
    "layer_norm",
    "relu",
    "gelu",
    "add",
    "max_pool",
    "global_average_pool",
    "flatten",
    "dense",
    "embedding",
    "position",
    "attention",
    "dropout",
    "module",
]
LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Node:
    """One operation. Its output goes by its name; ``"input"`` names the images (NHWC) or tokens."""

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    channels: int  # channels of the output
    in_channels: int = (
        0  # of the input (conv, dense, norms); entries (embedding), tokens (position)
    )
    kernel: int = 1  # side of a convolution kernel, or of a pool's window
    stride: int = 1
    bias: bool = False  # of a convolution; a dense layer always has one
    heads: int = 1  # of attention
    rate: float = 0.0  # of dropout: the share that is dropped
    seed: int = 0  # of dropout: the run's


@dataclass(frozen=True)
class Parameter:
    """One array of a network.

    ``kind`` is one of ``conv`` and ``dense`` (kernels), ``bias``, ``embedding``, ``scale``,
    ``offset`` (norms), ``mean``, ``variance`` (batch-norm statistics: not trained).
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    fan_in: int = 0
    fan_out: int = 0

    @property
    def trained(self) -> bool:
        return self.kind not in ("mean", "variance")


def parameters(nodes: list[Node]) -> list[Parameter]:
    """All arrays of a network, in the order of its nodes."""
    found = []
    for node in nodes:
        found += getattr(node, "arrays", ())  # of a whole network of a backend's own
        name, inputs, outputs = node.name, node.in_channels, node.channels
        if node.operation == "conv":
            area = node.kernel**2
            shape = (node.kernel, node.kernel, inputs, outputs)
            found.append(Parameter(f"{name}.kernel", "conv", shape, area * inputs, area * outputs))
            if node.bias:
                found.append(Parameter(f"{name}.bias", "bias", (outputs,), area * inputs))
        elif node.operation == "dense":
            shape = (inputs, outputs)
            found.append(Parameter(f"{name}.kernel", "dense", shape, inputs, outputs))
            found.append(Parameter(f"{name}.bias", "bias", (outputs,), inputs, outputs))
        elif node.operation in ("embedding", "position"):
            found.append(Parameter(f"{name}.table", "embedding", (inputs, outputs)))
        elif node.operation == "layer_norm":
            for kind in ("scale", "offset"):
                found.append(Parameter(f"{name}.{kind}", kind, (outputs,)))
        elif node.operation == "batch_norm":
            for kind in ("scale", "offset", "mean", "variance"):
                found.append(Parameter(f"{name}.{kind}", kind, (outputs,)))
    return found


def fold(
    nodes: list[Node], weights: dict[str, Any], epsilon: float
) -> tuple[list[Node], dict[str, Any]]:
    """The same function with batch norm's running statistics, in fewer operations.

    A batch norm after a convolution that nothing else reads is taken into that convolution, which
    gets a bias: kernel * scale / sqrt(variance + epsilon), offset - mean * the same factor.
    ``weights`` are arrays, or tensors of any framework, in canonical layouts.
    """
    by_name = {node.name: node for node in nodes}
    readers = Counter(name for node in nodes for name in node.inputs)
    weights, renamed, found = dict(weights), {}, []
    for node in nodes:
        before = by_name.get(node.inputs[0])
        if (
            node.operation == "batch_norm"
            and before is not None
            and (before.operation, before.bias, readers[before.name]) == ("conv", False, 1)
        ):
            parts = ("scale", "offset", "mean", "variance")
            scale, offset, mean, variance = (weights.pop(f"{node.name}.{p}") for p in parts)
            factor = scale / (variance + epsilon) ** 0.5
            conv = before.name
            weights[f"{conv}.kernel"] = weights[f"{conv}.kernel"] * factor
            weights[f"{conv}.bias"] = offset - mean * factor
            place = [n.name for n in found].index(conv)
            found[place] = replace(found[place], bias=True)
            renamed[node.name] = conv
        else:
            inputs = tuple(renamed.get(name, name) for name in node.inputs)
            found.append(replace(node, inputs=inputs))
    return found, weights


class FusedConv(Node):
    """A convolution, plus its second input where it has one, and the ReLU of that."""


def fuse(nodes: list[Node]) -> list[Node]:
    """The same function with ReLUs taken into the convolutions before them.

    A ReLU of a convolution, or of the sum of a convolution and something else, where nothing else
    reads what is between, becomes a :class:`FusedConv` of the convolution's name and parameters.
    ``nodes`` are in the order of their use, and so is what comes out.
    """
    by_name = {node.name: node for node in nodes}
    readers = Counter(name for node in nodes for name in node.inputs)

    def taken(name: str) -> bool:
        node = by_name.get(name)
        return type(node) is Node and node.operation == "conv" and readers[name] == 1

    fused: dict[str, Node] = {}  # by the name of the ReLU
    gone = set()
    for node in nodes:
        before = by_name.get(node.inputs[0])
        if node.operation != "relu" or before is None or readers[before.name] != 1:
            continue
        terms = before.inputs if before.operation == "add" else (before.name,)
        conv = next(filter(taken, terms), None)
        if conv is not None:
            rest = tuple(name for name in terms if name != conv)
            inputs = by_name[conv].inputs + rest
            fused[node.name] = FusedConv(**vars(by_name[conv]) | {"inputs": inputs})
            gone |= {conv, before.name}
    renamed = {relu: conv.name for relu, conv in fused.items()}
    return [
        replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        for node in (fused.get(node.name, node) for node in nodes if node.name not in gone)
    ]
