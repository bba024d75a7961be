"""The norm of all gradients of a PyTorch model, in few calls where it has many small ones."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

LARGEST = 4096  # elements: a call takes longer than the sum of fewer
LEAST = 8  # of one shape: stacking fewer takes longer than it saves


def plain_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all elements of dense ``gradients`` of one dtype and device: float32 ()."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


class GradientNorm:
    """As :func:`plain_norm`, to the bit, of gradients of ``parameters``, of one dtype and device.

    On a CPU PyTorch sums up tensor after tensor. Those of one shape are stacked, and are summed up
    row by row by the same routine: a third of the time for 42 layers of 16 units.
    """

    def __init__(self, parameters: Sequence[Tensor]):
        by_shape: dict[torch.Size, list[int]] = {}
        for index, parameter in enumerate(parameters):
            plain = type(parameter) in (Tensor, nn.Parameter) and parameter.device.type == "cpu"
            if plain and 1 < parameter.numel() <= LARGEST:
                by_shape.setdefault(parameter.shape, []).append(index)
        self.stacks = [stack for stack in by_shape.values() if len(stack) >= LEAST]
        stacked = list(itertools.chain(*self.stacks))
        self.others = sorted({*range(len(parameters))} - {*stacked})
        self.order = torch.tensor([*stacked, *self.others]).argsort()

    def __call__(self, gradients: Sequence[Tensor]) -> Tensor:
        """Of the gradients that are there, in the order of the parameters."""
        whole = self.stacks and len(gradients) == len(self.order)
        if not whole or not all(gradient.is_contiguous() for gradient in gradients):
            return plain_norm(gradients)
        norms = [
            torch.linalg.vector_norm(torch.stack([gradients[i] for i in stack]).flatten(1), dim=1)
            for stack in self.stacks
        ]
        if self.others:
            norms.append(torch.stack(torch._foreach_norm([gradients[i] for i in self.others])))
        return torch.linalg.vector_norm(torch.cat(norms)[self.order])
