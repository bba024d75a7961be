"""See :mod:`lrrt.core.optimizers.adam`."""

import torch
from torch import Tensor

from lrrt.backends.torch.optimizers import decay, scale
from lrrt.core.protocol import Protocol


class Adam:
    def __init__(self, parameters: dict[str, Tensor], protocol: Protocol):
        self.names, self.parameters = list(parameters), list(parameters.values())
        self.protocol = protocol
        self.first, self.second = (
            [torch.zeros_like(parameter) for parameter in self.parameters] for _ in range(2)
        )
        device = self.parameters[0].device
        self.count = torch.zeros((), dtype=torch.float64, device=device)  # updates so far

    def update(self, gradients: list[Tensor], lr: float | Tensor) -> None:
        protocol = self.protocol
        decay(self.parameters, lr, protocol)
        self.count += 1
        torch._foreach_lerp_(self.first, gradients, 1 - protocol.beta1)
        torch._foreach_mul_(self.second, protocol.beta2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - protocol.beta2)
        count = self.count if isinstance(lr, Tensor) else self.count.item()
        of_first, of_root = 1 - protocol.beta1**count, (1 - protocol.beta2**count) ** 0.5
        if isinstance(lr, Tensor):
            of_first, of_root = of_first.float(), of_root.float()
        change = torch._foreach_sqrt(self.second)
        if protocol.epsilon_hat:
            torch._foreach_add_(change, protocol.epsilon)
            size = lr * of_root / of_first
        else:
            torch._foreach_div_(change, of_root)
            torch._foreach_add_(change, protocol.epsilon)
            size = lr / of_first
        change = torch._foreach_div(self.first, change)
        scale(change, size)
        torch._foreach_sub_(self.parameters, change)

    def state(self) -> dict[str, Tensor]:
        slots = (("first", self.first), ("second", self.second))
        named = {f"{s}.{n}": t for s, ts in slots for n, t in zip(self.names, ts, strict=True)}
        return named | {"adam.count": self.count}


start = Adam
