"""Several processes that train one model together: they decide together, or are refused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn

from lrrt.errors import InputError


def several_ranks() -> bool:
    """Whether this process is one of several in PyTorch's default group."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def check_ranks(model: nn.Module) -> None:
    """Raise :class:`InputError` for a model whose gradients several ranks would not average."""
    if not several_ranks():
        return
    if not isinstance(model, nn.parallel.DistributedDataParallel):
        raise InputError(
            "model",
            type(model).__name__,
            f"DistributedDataParallel around it, since {distributed.get_world_size()} processes "
            "train together; other kinds of parallel training are not supported",
        )


def mean_over_ranks(loss: Tensor) -> float:
    """The mean of all ranks' losses, the same bits on each; not finite if one of them is not."""
    return over_ranks([loss.item()])[0] / distributed.get_world_size()


def over_ranks(values: Sequence[float]) -> list[float]:
    """The sums over all ranks, in float64, as the first rank has them."""
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    sums = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(sums)
    distributed.broadcast(sums, 0)
    return sums.tolist()
