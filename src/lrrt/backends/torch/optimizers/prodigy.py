"""See :mod:`lrrt.core.optimizers.prodigy`."""

from torch import Tensor

from lrrt.backends.torch.optimizers._library import LibraryOptimizer, adam_options, library
from lrrt.core.protocol import Protocol


def start(parameters: dict[str, Tensor], protocol: Protocol) -> LibraryOptimizer:
    return LibraryOptimizer(
        parameters,
        lambda found: library("prodigyopt").Prodigy(found, lr=1.0, **adam_options(protocol)),
    )
