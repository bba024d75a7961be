"""Optimisers in PyTorch: :mod:`lrrt.core.optimizers`.

``lr`` is a number, or a tensor of the device, which a captured graph reads at each replay (a number
would be frozen in it).
"""

import torch
from torch import Tensor

from lrrt.core.protocol import Protocol


def scale(targets: list[Tensor], factor: float | Tensor) -> None:
    """``targets *= factor``, in place; a stack's (networks, 1, 1) is each network's own."""
    if isinstance(factor, Tensor) and factor.ndim:
        factor = [factor] * len(targets)
    torch._foreach_mul_(targets, factor)


def add_scaled(targets: list[Tensor], values: list[Tensor], factor: float | Tensor) -> None:
    """``targets += factor * values``, in place; ``factor`` as in :func:`scale`."""
    if isinstance(factor, Tensor):
        factor = [factor] * len(values) if factor.ndim else factor
        torch._foreach_add_(targets, torch._foreach_mul(values, factor))
    else:
        torch._foreach_add_(targets, values, alpha=factor)


def decay(parameters: list[Tensor], lr: float | Tensor, protocol: Protocol) -> None:
    """Decoupled weight decay, in place, where the protocol has it."""
    if protocol.weight_decay.kind == "decoupled":
        scale(parameters, 1 - lr * protocol.weight_decay.value)
