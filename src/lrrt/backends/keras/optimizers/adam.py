"""See :mod:`lrrt.core.optimizers.adam`."""

from lrrt.backends.keras.framework import tf
from lrrt.backends.keras.optimizers import decay
from lrrt.core.protocol import Protocol


class Adam:
    def __init__(self, parameters: dict[str, tf.Variable], protocol: Protocol):
        self.parameters, self.protocol = parameters, protocol
        self.first, self.second = (
            {n: tf.Variable(tf.zeros_like(v)) for n, v in parameters.items()} for _ in range(2)
        )
        self.count = tf.Variable(tf.zeros((), tf.float64))  # updates so far

    def update(self, gradients: list[tf.Tensor], lr: tf.Tensor) -> None:
        protocol = self.protocol
        self.count.assign_add(1)
        # In float64: in float32 the first of these has three right digits.
        of_first, of_root = (
            tf.cast(value, tf.float32)
            for value in (
                1 - tf.pow(tf.constant(protocol.beta1, tf.float64), self.count),
                tf.sqrt(1 - tf.pow(tf.constant(protocol.beta2, tf.float64), self.count)),
            )
        )
        for (name, variable), gradient in zip(self.parameters.items(), gradients, strict=True):
            first, second = self.first[name], self.second[name]
            decay(variable, lr, protocol)
            first.assign_add((gradient - first) * (1 - protocol.beta1))
            second.assign(protocol.beta2 * second + (1 - protocol.beta2) * tf.square(gradient))
            if protocol.epsilon_hat:
                size = lr * of_root / of_first
                variable.assign_sub(size * first / (tf.sqrt(second) + protocol.epsilon))
            else:
                size, root = lr / of_first, tf.sqrt(second) / of_root
                variable.assign_sub(size * first / (root + protocol.epsilon))

    def state(self) -> dict[str, tf.Variable]:
        slots = (("first", self.first), ("second", self.second))
        named = {f"{slot}.{n}": v for slot, values in slots for n, v in values.items()}
        return named | {"adam.count": self.count}


start = Adam
