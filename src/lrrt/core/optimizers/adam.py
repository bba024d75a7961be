"""Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1), in both published forms.

m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2; with t counted from 1 and c_i = 1 -
beta_i^t, w <- w - lr (m / c1) / (sqrt(v / c2) + epsilon). With ``epsilon_hat`` (the end of section
2 there; TensorFlow, Keras) w <- w - lr sqrt(c2) / c1 m / (sqrt(v) + epsilon): the same but for
epsilon, which counts for less in the first steps of the other form.
"""

from lrrt.core.optimizers import check_decay
from lrrt.core.protocol import Protocol

READS = ("beta1", "beta2", "epsilon", "epsilon_hat")


def validate(prefix: str, protocol: Protocol) -> None:
    """Raise :class:`InputError` for a decoupled weight decay: that is ``adamw``."""
    check_decay(prefix, protocol, "none", "l2")
