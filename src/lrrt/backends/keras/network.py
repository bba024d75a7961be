"""A network in Keras: the training step as one ``tf.function``."""

from collections.abc import Iterator

import numpy as np

from lrrt import plugins
from lrrt.backends import Step
from lrrt.backends.keras.framework import tf
from lrrt.backends.keras.layers import model_of, variables_of
from lrrt.core.dropout import Masks
from lrrt.core.network import fold, parameters

EVALUATION_BATCH = {"running": 32, "batch": 512}  # small batches stay in the cache
# Of a ``tf.function``. Nothing here branches on a tensor, and AutoGraph leaves a file for each in
# the temporary folder of a worker that is killed.
AS_WRITTEN = {"jit_compile": False, "autograph": False}


class KerasNetwork:
    """See :class:`lrrt.backends.Network`."""

    def __init__(self, nodes, protocol, weights, policy):
        self.nodes, self.protocol, self.policy = nodes, protocol, policy
        self.masks = Masks(nodes)
        self.model = model_of(nodes, protocol, policy, self.masks)
        self.variables = variables_of(self.model, nodes)
        for name, variable in self.variables.items():
            variable.assign(weights[name])
        self.described = {p.name: p for p in parameters(nodes) if p.trained}
        self.optimizer = plugins.find(
            "lrrt.backends.keras.optimizers", protocol.optimizer, "protocol.optimizer"
        ).start({name: self.variables[name] for name in self.described}, protocol)
        self._step = tf.function(self._train, **AS_WRITTEN)
        self._batch_logits = tf.function(lambda x: self.model(x, training=True), **AS_WRITTEN)
        self.folded = None  # model, variables and function of the folded network, once needed

    def step(self, images: np.ndarray, labels: np.ndarray, lr: float) -> Step:
        with self.masks.drawn():
            taken = self._step(
                tf.constant(images), tf.constant(labels), tf.constant(lr, tf.float32)
            )
        self.masks.steps += 1
        return Step(*taken.numpy().tolist())

    def _train(self, images: tf.Tensor, labels: tf.Tensor, lr: tf.Tensor) -> tf.Tensor:
        protocol = self.protocol
        names = list(self.described)
        variables = [self.variables[name] for name in names]
        with tf.GradientTape() as tape:
            logits = tf.cast(self.model(images, training=True), tf.float32)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        # Dense: of an embedding's slices TensorFlow (2.21) takes the norm without adding up those
        # of one row.
        found = [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]
        gradients = dict(zip(names, found, strict=True))
        penalty = tf.zeros(())
        for name, parameter in self.described.items():
            strength = protocol.weight_decay.penalty(parameter.kind)
            if strength > 0:
                penalty += strength * tf.reduce_sum(tf.square(self.variables[name]))
                gradients[name] += 2 * strength * self.variables[name]
        norm = tf.linalg.global_norm(list(gradients.values()))
        if protocol.gradient_clip is not None:
            clipped, _ = tf.clip_by_global_norm(
                list(gradients.values()), protocol.gradient_clip, use_norm=norm
            )
            gradients = dict(zip(names, clipped, strict=True))
        self.optimizer.update(list(gradients.values()), lr)
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
            correct += int(np.sum(np.argmax(logits, axis=-1) == labels[start : start + size]))
        for name, value in statistics_before.items():
            self.variables[name].assign(value)
        return loss / labels.size, correct / labels.size

    def _folded_logits(self):
        nodes, weights = fold(self.nodes, self.export(), self.protocol.batch_norm_epsilon)
        if self.folded is None:
            model = model_of(nodes, self.protocol, self.policy, self.masks)
            function = tf.function(lambda x: model(x, training=False), **AS_WRITTEN)
            self.folded = variables_of(model, nodes), function
        variables, function = self.folded
        for name, variable in variables.items():
            variable.assign(weights[name])
        return function

    def export(self) -> dict[str, np.ndarray]:
        return {name: variable.numpy() for name, variable in self.variables.items()}

    def state(self) -> dict[str, np.ndarray]:
        arrays = {name: variable.numpy() for name, variable in self._all_variables()}
        return arrays | self.masks.state()

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.masks.restore(state)
        for name, variable in self._all_variables():
            variable.assign(state[name])

    def _all_variables(self) -> Iterator[tuple[str, tf.Variable]]:
        yield from self.variables.items()
        yield from self.optimizer.state().items()
