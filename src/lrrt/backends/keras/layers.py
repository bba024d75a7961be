"""A network as a Keras model: a layer for each node."""

from lrrt.backends.keras.framework import keras, tf
from lrrt.core.network import Node, parameters
from lrrt.core.protocol import ProtocolConfig

layers = keras.layers
# Keras's name of each array of a layer, by its kind (lrrt.core.network.Parameter).
ATTRIBUTES = {
    "conv": "kernel",
    "dense": "kernel",
    "bias": "bias",
    "scale": "gamma",
    "offset": "beta",
    "mean": "moving_mean",
    "variance": "moving_variance",
}


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras's layer with TensorFlow's fused kernel in training, as Keras 2 had it.

    Keras 3 computes the moments by separate operations and keeps the biased variance; the fused
    kernel is faster and gives the unbiased one, from which either follows.
    """

    def __init__(self, *, unbiased: bool, **options):
        super().__init__(**options)
        self.unbiased = unbiased

    def call(self, inputs, training=None):
        if not training:
            return super().call(inputs, training=False)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        if not self.unbiased:
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), variance.dtype)
            variance *= (count - 1) / count
        kept = self.momentum
        self.moving_mean.assign(kept * self.moving_mean + (1 - kept) * mean)
        self.moving_variance.assign(kept * self.moving_variance + (1 - kept) * variance)
        return outputs


def _layer(node: Node, protocol: ProtocolConfig, policy: str) -> layers.Layer:
    options = {"name": node.name, "dtype": policy}
    if node.operation == "conv":
        centred = protocol.padding == "symmetric" and node.stride > 1
        return layers.Conv2D(
            node.channels,
            node.kernel,
            strides=node.stride,
            padding="valid" if centred else "same",
            use_bias=node.bias,
            **options,
        )
    if node.operation == "batch_norm":
        return FusedBatchNormalization(
            unbiased=protocol.batch_norm_unbiased,
            momentum=protocol.batch_norm_momentum,
            epsilon=protocol.batch_norm_epsilon,
            **options,
        )
    if node.operation == "dense":
        return layers.Dense(node.channels, **options)
    simple = {
        "relu": layers.ReLU,
        "add": layers.Add,
        "global_average_pool": layers.GlobalAveragePooling2D,
    }
    return simple[node.operation](**options)


def model_of(nodes: list[Node], protocol: ProtocolConfig, policy: str) -> keras.Model:
    """Logits from NHWC images of any size."""
    first = next(node for node in nodes if node.inputs == ("input",))
    values = {"input": keras.Input((None, None, first.in_channels))}
    for node in nodes:
        inputs = [values[name] for name in node.inputs]
        layer = _layer(node, protocol, policy)
        if node.operation == "conv" and layer.padding == "valid" and node.kernel > 1:
            inputs = [layers.ZeroPadding2D((node.kernel - 1) // 2, dtype=policy)(inputs[0])]
        values[node.name] = layer(inputs if len(inputs) > 1 else inputs[0])
    return keras.Model(values["input"], values[nodes[-1].name])


def variables_of(model: keras.Model, nodes: list[Node]) -> dict[str, tf.Variable]:
    """The model's arrays by canonical name; Keras's layouts are the canonical ones."""
    return {
        p.name: getattr(model.get_layer(p.name.rsplit(".", 1)[0]), ATTRIBUTES[p.kind]).value
        for p in parameters(nodes)
    }
