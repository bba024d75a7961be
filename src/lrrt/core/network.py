"""A network as data: a list of nodes that every backend builds, and the parameters it has.

A network module in :mod:`lrrt.core.networks` has one function
``nodes(model: ModelConfig, channels: int, classes: int) -> list[Node]``. Parameters have canonical
names ``<node>.<parameter>`` and canonical layouts: convolution kernels are (height, width, in,
out), dense kernels (in, out), everything else a vector.
"""

from dataclasses import dataclass
from typing import Literal

Operation = Literal["conv", "batch_norm", "relu", "add", "global_average_pool", "dense"]


@dataclass(frozen=True)
class Node:
    """One operation. Its output goes by its name; ``"input"`` names the images (NHWC)."""

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    channels: int  # channels of the output
    in_channels: int = 0  # channels of the input (conv, dense, batch_norm)
    kernel: int = 1  # side of a convolution kernel
    stride: int = 1


@dataclass(frozen=True)
class Parameter:
    """One array of a network.

    ``kind`` is one of ``conv`` and ``dense`` (kernels), ``bias``, ``scale``, ``offset`` (batch
    norm), ``mean``, ``variance`` (batch-norm statistics: not trained).
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
        name, inputs, outputs = node.name, node.in_channels, node.channels
        if node.operation == "conv":
            area = node.kernel**2
            shape = (node.kernel, node.kernel, inputs, outputs)
            found.append(Parameter(f"{name}.kernel", "conv", shape, area * inputs, area * outputs))
        elif node.operation == "dense":
            shape = (inputs, outputs)
            found.append(Parameter(f"{name}.kernel", "dense", shape, inputs, outputs))
            found.append(Parameter(f"{name}.bias", "bias", (outputs,), inputs, outputs))
        elif node.operation == "batch_norm":
            for kind in ("scale", "offset", "mean", "variance"):
                found.append(Parameter(f"{name}.{kind}", kind, (outputs,)))
    return found
