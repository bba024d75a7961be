"""Networks of torchvision as a node that holds a module: :mod:`lrrt.core.networks.torchvision`."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from lrrt.core.network import Node, Parameter
from lrrt.core.protocol import ModelSection, Protocol
from lrrt.errors import InputError

NORM = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class ModuleNode(Node):
    """``arrays``: the module's parameters; ``places``: by their names, those in the module."""

    arrays: tuple[Parameter, ...] = ()
    places: Any = None
    module: Any = None


def nodes(model: ModelSection, shape: tuple[int, ...], classes: int) -> list[Node]:
    """Raises :class:`InputError` for a name that torchvision does not have, and for other images
    than of three channels."""
    if shape[-1] != 3:
        raise InputError("data", shape, "images of three channels with model=torchvision")
    models = _torchvision().models
    known = models.list_models(module=models)
    if model.name not in known:
        raise InputError("model.name", model.name, f"one of: {', '.join(known)}")
    with torch.device("meta"):
        module = models.get_model(model.name, weights=None, num_classes=classes)
    places = {parameter.name: place for parameter, place in _describe(module)}
    arrays = tuple(parameter for parameter, _ in _describe(module))
    own = {"arrays": arrays, "places": places, "module": module}
    return [ModuleNode("network", "module", ("input",), classes, 3, **own)]


def _torchvision() -> ModuleType:
    try:
        import torchvision
    except ImportError:
        words = "a network of lrrt's; torchvision is not installed"
        raise InputError("model.library", "torchvision", words) from None
    except RuntimeError:
        # A CPU build of torch 2.13 beside a torchvision 0.28 that was built for CUDA: its operators
        # are missing, and their registration fails unless somebody declares them.
        declared = torch.library.Library("torchvision", "DEF")
        declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _torchvision.declared = declared  # which must live on
        import torchvision
    return torchvision


def _describe(module: nn.Module) -> list[tuple[Parameter, str]]:
    """Every array with its canonical shape and name, and its place in the module."""
    found = []
    for path, part in module.named_modules():
        for name, tensor in [
            *part.named_parameters(recurse=False),
            *part.named_buffers(recurse=False),
        ]:
            place = f"{path}.{name}".lstrip(".")
            if name == "num_batches_tracked":
                continue
            kind, shape, fan_in, fan_out = "embedding", tuple(tensor.shape), 0, 0
            if isinstance(part, nn.Conv2d) and name == "weight":
                out, inputs, *window = shape
                area = window[0] * window[1]
                kind, shape = "conv", (*window, inputs, out)
                fan_in, fan_out = inputs * area, out * area // part.groups
            elif isinstance(part, nn.Linear) and name == "weight":
                kind, shape, fan_in, fan_out = "dense", shape[::-1], shape[1], shape[0]
            elif name == "bias" and isinstance(part, nn.Conv2d | nn.Linear):
                kind, fan_in = "bias", part.weight[0].numel()
            elif isinstance(part, NORM | nn.LayerNorm | nn.GroupNorm):
                kinds = {"weight": "scale", "bias": "offset"}
                kinds |= {"running_mean": "mean", "running_var": "variance"}
                kind = kinds[name]
            found.append((Parameter(place, kind, shape, fan_in, fan_out), place))
    return found


def forward_module(
    node: ModuleNode, tensors: dict[str, Tensor], protocol: Protocol, mode: str, x: Tensor
) -> Tensor:
    """``mode``: ``train``, ``batch`` (statistics of the batch, nothing moves) or ``running``."""
    if not protocol.batch_norm_unbiased:
        raise InputError("batch_norm_unbiased", False, "true with model=torchvision")
    node.module.eval()
    for part in node.module.modules():
        if isinstance(part, NORM):
            part.train(mode != "running")
            part.momentum = 1 - protocol.batch_norm_momentum
            part.eps = protocol.batch_norm_epsilon
    own = {place: tensors[name] for name, place in node.places.items()}
    for place, buffer in node.module.named_buffers():
        if place not in own:
            own[place] = torch.zeros_like(buffer, device=x.device)  # a count that nobody reads
        elif mode == "batch":
            own[place] = own[place].clone()
    return torch.func.functional_call(node.module, own, (x,))
