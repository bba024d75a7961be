"""The PyTorch backend."""

import numpy as np
import torch

from lrrt.backends.torch import cuda
from lrrt.backends.torch.network import TorchNetwork
from lrrt.backends.torch.stack import TorchStack, stackable
from lrrt.backends.torch.torchvision import nodes as nodes
from lrrt.core.network import Node
from lrrt.core.protocol import Protocol
from lrrt.errors import InputError

# Of autocast; None: off. (tfloat32: on a GPU, convolutions and products in TF32.)
DTYPES = {"float32": None, "tfloat32": None, "bfloat16": torch.bfloat16}


def build(
    nodes: list[Node],
    protocol: Protocol,
    weights: dict[str, np.ndarray],
    *,
    precision: str = "float32",
    threads: int = 1,
    device: str = "cpu",
) -> TorchNetwork:
    """A network with ``weights`` (canonical names and layouts), ready to train by ``protocol``.

    On a GPU it also trains whole range tests there: :mod:`lrrt.backends.torch.cuda`.

    Raises
    ------
    InputError
        For a GPU that PyTorch does not see, and for TF32 without one.
    """
    torch.set_num_threads(threads)
    if device == "cuda":
        return cuda.build(nodes, protocol, weights, DTYPES[precision], precision)
    if precision == "tfloat32":
        raise InputError("precision", precision, "float32 or bfloat16 on a CPU")
    return TorchNetwork(nodes, protocol, weights, DTYPES[precision], torch.device(device))


def stack(
    nodes: list[Node],
    protocol: Protocol,
    weights: list[dict[str, np.ndarray]],
    *,
    threads: int = 1,
) -> TorchStack:
    """Networks of one kind, one for each of ``weights``, that are trained at once, on a CPU.

    Raises
    ------
    InputError
        For any but a chain of dense layers.
    """
    torch.set_num_threads(threads)
    if not stackable(nodes):
        raise InputError("stacked", True, "false; the network is no chain of dense layers")
    return TorchStack(nodes, protocol, weights)


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}
