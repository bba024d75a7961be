"""Optimisers in PyTorch: :mod:`lrrt.core.optimizers`.

``lr`` is a number, or a tensor of the device, which a captured graph reads at each replay (a number
would be frozen in it).
"""

import torch
from torch import Tensor

from lrrt.core.protocol import ProtocolConfig


def add_scaled(targets: list[Tensor], values: list[Tensor], factor: float | Tensor) -> None:
    """``targets += factor * values``, in place."""
    if isinstance(factor, Tensor):
        torch._foreach_add_(targets, torch._foreach_mul(values, factor))
    else:
        torch._foreach_add_(targets, values, alpha=factor)


def decay(parameters: list[Tensor], lr: float | Tensor, protocol: ProtocolConfig) -> None:
    """Decoupled weight decay, in place, where the protocol has it."""
    if protocol.weight_decay.kind == "decoupled":
        torch._foreach_mul_(parameters, 1 - lr * protocol.weight_decay.value)
