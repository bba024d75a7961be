"""D-Adaptation (Defazio and Mishchenko 2023, arXiv 2301.07733): Adam that finds its own step size.

The library ``dadaptation`` (3.2), in PyTorch, on a CPU. The LR is a factor of what it finds: train
at 1, with any policy. Weight decay is decoupled, or there is none.
"""

from lrrt.core.optimizers import check_decay
from lrrt.core.protocol import Protocol

BACKENDS = ("torch",)
READS = ("beta1", "beta2", "epsilon")


def validate(prefix: str, protocol: Protocol) -> None:
    """Raise :class:`InputError` for a penalty."""
    check_decay(prefix, protocol, "none", "decoupled")
