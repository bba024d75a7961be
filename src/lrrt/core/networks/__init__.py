"""Networks, one module each.

``Model``: a dataclass, subclass of :class:`lrrt.core.protocol.ModelSection`, of the network's own
parameters. ``validate(model)``: raise :class:`lrrt.InputError` for those that are impossible.
``nodes(model, shape, classes)``: the network as a list of :class:`lrrt.core.network.Node`, for
inputs of ``shape`` (height, width, channels), or (tokens,). Where it reads tokens, ``INPUT =
"tokens"``. One that only some backends offer names them in ``BACKENDS``; where it has no ``nodes``,
the backend has them, and ``Model.library`` instead of the name says which module it is.
"""

from types import ModuleType
from typing import Any

from lrrt import plugins
from lrrt.core.network import Node
from lrrt.core.protocol import ModelSection
from lrrt.errors import InputError

NETWORKS = "lrrt.core.networks"
# Of a field of a configuration's section that is a network: annotated Any, since its type depends
# on its name (lrrt.config.reading).
OF_NETWORK = {"type": ModelSection}
# Of a shape of images or tokens for which a network is checked before there are data.
TYPICAL = {"images": (32, 32, 3), "tokens": (64,)}


def find(values: dict[str, Any]) -> ModuleType:
    """The network's module, by the section ``model`` of a configuration, or what it became."""
    if "library" in values:
        return plugins.find(NETWORKS, values["library"], "model.library")
    return plugins.find(NETWORKS, values.get("name", "resnet"), "model.name")


def module_of(model: ModelSection) -> ModuleType:
    return find(vars(model))


def check(model: ModelSection) -> None:
    """Raise :class:`InputError` for impossible parameters, by themselves or for a backend."""
    network = module_of(model)
    network.validate(model)
    if hasattr(network, "nodes"):
        check_nodes(network.nodes(model, TYPICAL[input_of(network)], classes=10))


def input_of(network: ModuleType) -> str:
    """``images`` or ``tokens``."""
    return getattr(network, "INPUT", "images")


def check_nodes(nodes: list[Node]) -> None:
    """Raise :class:`InputError` for a network that outside software does not survive.

    The convolutions of PyTorch 2.13 (oneDNN, on AVX2) may write past the end of their arrays.
    """
    for node in nodes:
        if node.operation == "conv" and node.kernel == 1 and node.in_channels % 8 != 0:
            given = f"{node.in_channels} in {node.name}"
            raise InputError("model", given, "a multiple of 8 channels into each 1x1 convolution")
