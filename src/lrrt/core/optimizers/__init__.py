"""Optimisers, one module each here, and one of the same name in each backend that offers it.

Here: ``READS``, the fields of the protocol that it reads beside ``weight_decay`` (the others of
``NUMBERS`` are not part of its runs), ``validate(prefix, protocol)``, and ``BACKENDS`` where
only some have it.

In ``lrrt.backends.<backend>.optimizers``: ``start(parameters, protocol)``, where ``parameters`` are
the trained tensors by canonical name. What it gives has ``update(gradients, lr)``, one update in
place by gradients in the order of the parameters, the weight decay included where it is decoupled;
and ``state()``, all that the next update depends on, as tensors by name: ``<slot>.<parameter>`` for
what has a parameter's layout. It may also have ``evaluation()``, a context in which the parameters
are what is to be evaluated, and ``restore(state)``, where tensors cannot simply be put back.
"""

from lrrt.core.protocol import Protocol
from lrrt.errors import InputError

# Of all optimisers together.
NUMBERS = ("momentum", "momentum_form", "beta1", "beta2", "epsilon", "epsilon_hat")


def check_decay(prefix: str, protocol: Protocol, *allowed: str) -> None:
    """Raise :class:`InputError` for a kind of weight decay that the optimiser does not have."""
    kind = protocol.weight_decay.kind
    if kind not in allowed:
        words = f"{' or '.join(allowed)} with {prefix}.optimizer = {protocol.optimizer}"
        raise InputError(f"{prefix}.weight_decay.kind", kind, words)
