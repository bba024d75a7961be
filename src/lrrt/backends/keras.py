"""The Keras backend, on TensorFlow: Keras layers, and the training step as one ``tf.function``."""

import contextlib
import os
import sys
from collections.abc import Iterator

import numpy as np

from lrrt.backends import Step
from lrrt.config import ProtocolConfig
from lrrt.core.network import Node, fold, parameters
from lrrt.errors import InputError

# Read when TensorFlow is imported. oneDNN's kernels, which TensorFlow leaves off on processors
# without AVX-512, made a ResNet-56 step 1.3 times as fast on one with AVX2 (1.8 times together with
# the fused batch norm below); they change the last bits, so they are on for everybody.
if "tensorflow" in sys.modules and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "1":
    raise InputError(
        "TF_ENABLE_ONEDNN_OPTS",
        os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "1, set before TensorFlow is imported; import lrrt.backends.keras first",
    )
os.environ.update(KERAS_BACKEND="tensorflow", TF_ENABLE_ONEDNN_OPTS="1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Drop what is written to file descriptor 2, by whatever language."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


with silenced_stderr():  # TensorFlow's C++ start-up messages obey no setting
    import keras
    import tensorflow as tf
    from keras import layers

EVALUATION_BATCH = {"running": 32, "batch": 512}  # small batches stay in the cache
POLICIES = {"float32": "float32", "tfloat32": "float32", "bfloat16": "mixed_bfloat16"}
# Of a ``tf.function``. Nothing here branches on a tensor, and AutoGraph leaves a file for each in
# the temporary folder of a worker that is killed.
AS_WRITTEN = {"jit_compile": False, "autograph": False}
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


def build(
    nodes: list[Node],
    protocol: ProtocolConfig,
    weights: dict[str, np.ndarray],
    *,
    precision: str = "float32",
    threads: int = 1,
    device: str = "cpu",
) -> "KerasNetwork":
    """A network with ``weights`` (canonical names and layouts), ready to train by ``protocol``.

    ``cuda`` makes TensorFlow deterministic for the whole process, in which what is computed on the
    CPU has other last bits from then on.

    Raises
    ------
    InputError
        If Keras runs on another backend than TensorFlow, or TensorFlow already on another number
        of threads: both are fixed for a process.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError("KERAS_BACKEND", keras.backend.backend(), "tensorflow")
    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() != threads:
        try:
            threading.set_intra_op_parallelism_threads(threads)
            threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            running = threading.get_intra_op_parallelism_threads()
            raise InputError("threads", threads, f"{running}, as TensorFlow began with") from None
    if device == "cuda":
        with contextlib.suppress(RuntimeError):  # too late, where TensorFlow has begun already
            for gpu in tf.config.list_physical_devices("GPU"):
                # Else the first of several workers on a GPU takes nearly all of its memory.
                tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.experimental.enable_op_determinism()
        # TensorFlow's default is on, which is not float32.
        tf.config.experimental.enable_tensor_float_32_execution(precision == "tfloat32")
    with tf.device("/GPU:0" if device == "cuda" else "/CPU:0"):
        return KerasNetwork(nodes, protocol, weights, POLICIES[precision])


def versions() -> dict[str, str]:
    return {"keras": keras.__version__, "tensorflow": tf.__version__}


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


def _model(nodes: list[Node], protocol: ProtocolConfig, policy: str) -> keras.Model:
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


def _variables(model: keras.Model, nodes: list[Node]) -> dict[str, tf.Variable]:
    """The model's arrays by canonical name; Keras's layouts are the canonical ones."""
    return {
        p.name: getattr(model.get_layer(p.name.rsplit(".", 1)[0]), ATTRIBUTES[p.kind]).value
        for p in parameters(nodes)
    }


class KerasNetwork:
    """See :class:`lrrt.backends.Network`."""

    def __init__(self, nodes, protocol, weights, policy):
        self.nodes, self.protocol, self.policy = nodes, protocol, policy
        self.model = _model(nodes, protocol, policy)
        self.variables = _variables(self.model, nodes)
        for name, variable in self.variables.items():
            variable.assign(weights[name])
        self.described = {p.name: p for p in parameters(nodes) if p.trained}
        self.velocity = {n: tf.Variable(tf.zeros_like(self.variables[n])) for n in self.described}
        self._step = tf.function(self._train, **AS_WRITTEN)
        self._batch_logits = tf.function(lambda x: self.model(x, training=True), **AS_WRITTEN)
        self.folded = None  # model, variables and function of the folded network, once needed

    def step(self, images: np.ndarray, labels: np.ndarray, lr: float) -> Step:
        taken = self._step(tf.constant(images), tf.constant(labels), tf.constant(lr, tf.float32))
        return Step(*taken.numpy().tolist())

    def _train(self, images: tf.Tensor, labels: tf.Tensor, lr: tf.Tensor) -> tf.Tensor:
        protocol, decay = self.protocol, self.protocol.weight_decay
        names = list(self.described)
        variables = [self.variables[name] for name in names]
        with tf.GradientTape() as tape:
            logits = tf.cast(self.model(images, training=True), tf.float32)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = dict(zip(names, tape.gradient(loss, variables), strict=True))
        penalty = tf.zeros(())
        factors = {"conv": decay.conv_factor, "dense": decay.dense_factor}
        for name, parameter in self.described.items() if decay.kind == "l2" else ():
            strength = decay.value * factors.get(parameter.kind, decay.other_factor)
            if strength > 0:
                penalty += strength * tf.reduce_sum(tf.square(self.variables[name]))
                gradients[name] += 2 * strength * self.variables[name]
        norm = tf.linalg.global_norm(list(gradients.values()))
        if protocol.gradient_clip is not None:
            clipped, _ = tf.clip_by_global_norm(
                list(gradients.values()), protocol.gradient_clip, use_norm=norm
            )
            gradients = dict(zip(names, clipped, strict=True))
        for name, gradient in gradients.items():
            variable, velocity = self.variables[name], self.velocity[name]
            if decay.kind == "decoupled":
                variable.assign(variable * (1 - lr * decay.value))
            if protocol.momentum_form == "lr_inside":
                velocity.assign(protocol.momentum * velocity - lr * gradient)
                variable.assign_add(velocity)
            else:
                velocity.assign(protocol.momentum * velocity + gradient)
                variable.assign_sub(lr * velocity)
        return tf.stack([loss, penalty, norm])

    def evaluate(
        self, images: np.ndarray, labels: np.ndarray, statistics: str = "running"
    ) -> tuple[float, float]:
        statistics_before = {}
        if statistics == "running":
            logits_of = self._folded_logits()
        else:
            logits_of = self._batch_logits
            statistics_before = {
                name: variable.numpy()
                for name, variable in self.variables.items()
                if name not in self.described
            }
        size = EVALUATION_BATCH[statistics]
        loss, correct = 0.0, 0
        for start in range(0, len(images), size):
            targets = tf.constant(labels[start : start + size])
            logits = tf.cast(logits_of(tf.constant(images[start : start + size])), tf.float32)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
            loss += float(tf.reduce_sum(losses))
            correct += int(np.sum(np.argmax(logits, axis=1) == labels[start : start + size]))
        for name, value in statistics_before.items():
            self.variables[name].assign(value)
        return loss / len(images), correct / len(images)

    def _folded_logits(self):
        nodes, weights = fold(self.nodes, self.export(), self.protocol.batch_norm_epsilon)
        if self.folded is None:
            model = _model(nodes, self.protocol, self.policy)
            function = tf.function(lambda x: model(x, training=False), **AS_WRITTEN)
            self.folded = _variables(model, nodes), function
        variables, function = self.folded
        for name, variable in variables.items():
            variable.assign(weights[name])
        return function

    def export(self) -> dict[str, np.ndarray]:
        return {name: variable.numpy() for name, variable in self.variables.items()}

    def state(self) -> dict[str, np.ndarray]:
        return {name: variable.numpy() for name, variable in self._all_variables()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        for name, variable in self._all_variables():
            variable.assign(state[name])

    def _all_variables(self) -> Iterator[tuple[str, tf.Variable]]:
        yield from self.variables.items()
        yield from ((f"velocity.{name}", variable) for name, variable in self.velocity.items())
