"""Between the canonical layouts of arrays (:mod:`lrrt.core.network`) and PyTorch's."""

import numpy as np
import torch
from torch import Tensor

from lrrt.core.network import Parameter, parameters


def tensors_of(nodes, weights, device) -> dict[str, Tensor]:
    return {p.name: tensor_of(p, weights[p.name], device) for p in parameters(nodes)}


def tensor_of(parameter: Parameter, array: np.ndarray, device: torch.device) -> Tensor:
    """A copy in PyTorch's layout: kernels (out, in, height, width) and (out, in)."""
    return laid_out(parameter, torch.tensor(array, dtype=torch.float32, device=device))


def laid_out(parameter: Parameter, tensor: Tensor) -> Tensor:
    """From the canonical layout to PyTorch's."""
    if parameter.kind == "conv":
        return tensor.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return tensor.t().contiguous() if parameter.kind == "dense" else tensor


def array_of(parameter: Parameter, tensor: Tensor) -> np.ndarray:
    """A copy in the canonical layout."""
    return canonical(parameter, tensor).cpu().numpy().copy(order="C")


def canonical(parameter: Parameter, tensor: Tensor) -> Tensor:
    """The way back from :func:`laid_out`, as a view."""
    axes = {"conv": (2, 3, 1, 0), "dense": (1, 0)}.get(parameter.kind)
    return tensor.detach().permute(axes) if axes else tensor.detach()
