"""See :mod:`lrrt.core.optimizers.dadapt_adam`."""

from torch import Tensor

from lrrt.backends.torch.optimizers._library import LibraryOptimizer, adam_options, library
from lrrt.core.protocol import Protocol


def start(parameters: dict[str, Tensor], protocol: Protocol) -> LibraryOptimizer:
    return LibraryOptimizer(
        parameters,
        lambda found: library("dadaptation").DAdaptAdam(
            found, lr=1.0, decouple=True, **adam_options(protocol)
        ),
    )
