"""See :mod:`lrrt.core.optimizers.sgd`."""

from lrrt.backends.keras.framework import tf
from lrrt.backends.keras.optimizers import decay
from lrrt.core.protocol import Protocol


class Momentum:
    def __init__(self, parameters: dict[str, tf.Variable], protocol: Protocol):
        self.parameters, self.protocol = parameters, protocol
        self.velocity = {n: tf.Variable(tf.zeros_like(v)) for n, v in parameters.items()}

    def update(self, gradients: list[tf.Tensor], lr: tf.Tensor) -> None:
        momentum = self.protocol.momentum
        for (name, variable), gradient in zip(self.parameters.items(), gradients, strict=True):
            velocity = self.velocity[name]
            decay(variable, lr, self.protocol)
            if self.protocol.momentum_form == "lr_inside":
                velocity.assign(momentum * velocity - lr * gradient)
                variable.assign_add(velocity)
            else:
                velocity.assign(momentum * velocity + gradient)
                variable.assign_sub(lr * velocity)

    def state(self) -> dict[str, tf.Variable]:
        return {f"velocity.{name}": variable for name, variable in self.velocity.items()}


start = Momentum
