"""Gradient descent with momentum, in both published forms.

``lr_outside`` (PyTorch): v <- m v + g, w <- w - lr v. ``lr_inside`` (Keras; Sutskever et al. 2013):
v <- m v - lr g, w <- w + v. They differ where the LR changes.
"""

from lrrt.core.protocol import Protocol

READS = ("momentum", "momentum_form")


def validate(prefix: str, protocol: Protocol) -> None:
    """Every kind of weight decay goes with it."""
