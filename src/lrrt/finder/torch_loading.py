"""Batches of a DataLoader over a TensorDataset, cut out of its tensors at once.

PyTorch indexes each tensor once a sample and stacks what it finds, which takes as long as a step of
a small model. One index a batch gives the same values, from the same sampler and generator.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

SAMPLERS = (RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler)


def gathered(data: Any) -> Any:
    """A loader of the very batches of ``data``, faster; ``data`` itself where that is not sure."""
    plain = (
        type(data) is DataLoader
        and data.num_workers == 0
        and data.collate_fn is default_collate
        and not data.pin_memory
        and type(data.batch_sampler) is BatchSampler
        and type(data.batch_sampler.sampler) in SAMPLERS
    )
    if not plain:
        return data
    subset = data.dataset if type(data.dataset) is Subset else None
    samples = data.dataset if subset is None else subset.dataset
    if type(samples) is not TensorDataset or not all(map(_is_plain, samples.tensors)):
        return data
    source = _Gathered(samples.tensors, None if subset is None else subset.indices)
    sampler, generator = data.batch_sampler, data.generator
    return DataLoader(source, batch_sampler=sampler, generator=generator, collate_fn=_as_it_is)


def _is_plain(tensor: Tensor) -> bool:
    """Whether its rows, stacked, are what one index of it gives, in the same layout."""
    return (
        type(tensor) is Tensor
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and not tensor.requires_grad
        and tensor.is_contiguous()
    )


class _Gathered:
    """Whole batches of ``tensors``, of their rows ``chosen`` (None: all)."""

    def __init__(self, tensors: tuple[Tensor, ...], chosen: Any):
        self.tensors, self.chosen = tensors, chosen

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        if self.chosen is not None:
            indices = [self.chosen[index] for index in indices]
        rows = torch.tensor(indices)
        return [tensor[rows] for tensor in self.tensors]


def _as_it_is(batch: Any) -> Any:
    return batch
