"""Optimisers in TensorFlow: :mod:`lrrt.core.optimizers`. ``lr`` is a scalar tensor."""

from lrrt.backends.keras.framework import tf
from lrrt.core.protocol import Protocol


def decay(variable: tf.Variable, lr: tf.Tensor, protocol: Protocol) -> None:
    """Decoupled weight decay, in place, where the protocol has it."""
    if protocol.weight_decay.kind == "decoupled":
        variable.assign(variable * (1 - lr * protocol.weight_decay.value))
