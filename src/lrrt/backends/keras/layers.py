"""A network as a Keras model: a layer for each node."""

import numpy as np

from lrrt.backends.keras.framework import keras, tf
from lrrt.core.dropout import Masks
from lrrt.core.network import LAYER_NORM_EPSILON, Node, parameters
from lrrt.core.protocol import Protocol

layers = keras.layers
# Keras's name of each array of a layer, by its kind (lrrt.core.network.Parameter).
ATTRIBUTES = {
    "conv": "kernel",
    "dense": "kernel",
    "bias": "bias",
    "embedding": "embeddings",
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


class Position(layers.Layer):
    """Adds row i of a table to token i."""

    def __init__(self, tokens: int, **options):
        super().__init__(**options)
        self.tokens = tokens

    def build(self, shape):
        self.embeddings = self.add_weight(shape=(self.tokens, shape[-1]), name="embeddings")

    def call(self, inputs):
        return inputs + self.embeddings[: tf.shape(inputs)[1]]


class CausalAttention(layers.Layer):
    """Of queries, keys and values, each (batch, tokens, channels)."""

    def __init__(self, heads: int, **options):
        super().__init__(**options)
        self.heads = heads

    def call(self, inputs):
        channels = inputs[0].shape[-1]
        batch, tokens = tf.unstack(tf.shape(inputs[0])[:2])
        shape = (batch, tokens, self.heads, channels // self.heads)
        q, k, v = (tf.transpose(tf.reshape(x, shape), (0, 2, 1, 3)) for x in inputs)
        scores = tf.matmul(q, k, transpose_b=True) / tf.cast(shape[3] ** 0.5, q.dtype)
        earlier = tf.linalg.band_part(tf.ones((tokens, tokens), tf.bool), -1, 0)
        scores = tf.where(earlier, scores, tf.constant(-np.inf, scores.dtype))
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), (0, 2, 1, 3))
        return tf.reshape(mixed, (batch, tokens, channels))

    def compute_output_shape(self, shapes):
        return shapes[0]


class Dropout(layers.Layer):
    """Masks from outside, asked for at each training step."""

    def __init__(self, masks: Masks, **options):
        super().__init__(**options)
        self.masks = masks

    def call(self, inputs, training=None):
        if not training:
            return inputs
        draw = lambda shape: self.masks.mask(self.name, shape)  # noqa: E731
        mask = tf.numpy_function(draw, [tf.shape(inputs)], tf.float32)
        return inputs * tf.cast(tf.ensure_shape(mask, inputs.shape), inputs.dtype)


def _layer(node: Node, protocol: Protocol, policy: str, masks: Masks) -> layers.Layer:
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
    makers = {
        "dense": lambda: layers.Dense(node.channels, **options),
        "relu": lambda: layers.ReLU(**options),
        "gelu": lambda: layers.Activation(keras.activations.gelu, **options),  # the exact one
        "add": lambda: layers.Add(**options),
        "global_average_pool": lambda: layers.GlobalAveragePooling2D(**options),
        "max_pool": lambda: layers.MaxPooling2D(node.kernel, node.stride, **options),
        "flatten": lambda: layers.Reshape((node.channels,), **options),
        "layer_norm": lambda: layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, **options),
        "embedding": lambda: layers.Embedding(node.in_channels, node.channels, **options),
        "position": lambda: Position(node.in_channels, **options),
        "attention": lambda: CausalAttention(node.heads, **options),
        "dropout": lambda: Dropout(masks, **options),
    }
    return makers[node.operation]()


def model_of(nodes: list[Node], protocol: Protocol, policy: str, masks: Masks) -> keras.Model:
    """Logits from NHWC images of any size, or from tokens."""
    first = next(node for node in nodes if node.inputs == ("input",))
    if first.operation == "embedding":
        values = {"input": keras.Input((None,), dtype="int32")}
    else:
        channels = first.in_channels or None
        values = {"input": keras.Input((None, None, channels))}
    for node in nodes:
        inputs = [values[name] for name in node.inputs]
        layer = _layer(node, protocol, policy, masks)
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
