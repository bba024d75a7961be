"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101): Adam with decoupled weight decay.

w <- (1 - lr * ``weight_decay.value``) w first, every trained parameter; then :mod:`adam
<lrrt.core.optimizers.adam>`.
"""

from lrrt.core.optimizers import check_decay
from lrrt.core.optimizers.adam import READS as READS
from lrrt.core.protocol import Protocol


def validate(prefix: str, protocol: Protocol) -> None:
    """Raise :class:`InputError` unless the weight decay is decoupled."""
    check_decay(prefix, protocol, "decoupled")
