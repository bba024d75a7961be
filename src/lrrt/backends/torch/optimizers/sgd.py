"""See :mod:`lrrt.core.optimizers.sgd`."""

import torch
from torch import Tensor

from lrrt.backends.torch.optimizers import add_scaled, decay
from lrrt.core.protocol import Protocol


class Momentum:
    def __init__(self, parameters: dict[str, Tensor], protocol: Protocol):
        self.names, self.parameters = list(parameters), list(parameters.values())
        self.protocol = protocol
        self.velocity = [torch.zeros_like(parameter) for parameter in self.parameters]

    def update(self, gradients: list[Tensor], lr: float | Tensor) -> None:
        decay(self.parameters, lr, self.protocol)
        torch._foreach_mul_(self.velocity, self.protocol.momentum)
        if self.protocol.momentum_form == "lr_inside":
            add_scaled(self.velocity, gradients, -lr)
            torch._foreach_add_(self.parameters, self.velocity)
        else:
            torch._foreach_add_(self.velocity, gradients)
            add_scaled(self.parameters, self.velocity, -lr)

    def state(self) -> dict[str, Tensor]:
        return {f"velocity.{n}": v for n, v in zip(self.names, self.velocity, strict=True)}


start = Momentum
