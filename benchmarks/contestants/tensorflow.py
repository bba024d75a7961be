"""Peers on Keras with TensorFlow, with their usual settings, on a model of Keras layers."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from case import Case, Notes  # noqa: E402
from keras import layers  # noqa: E402


def _model(case: Case) -> keras.Model:
    """Logits of NHWC images."""
    values, weights = {"input": keras.Input((32, 32, 3))}, case.weights()
    protocol = case.protocol
    for node in case.nodes:
        inputs = [values[name] for name in node.inputs]
        if node.operation == "conv":
            layer = layers.Conv2D(
                node.channels, node.kernel, strides=node.stride, padding="same", use_bias=False
            )
        elif node.operation == "batch_norm":
            layer = layers.BatchNormalization(
                momentum=protocol.batch_norm_momentum, epsilon=protocol.batch_norm_epsilon
            )
        elif node.operation == "dense":
            layer = layers.Dense(node.channels)
        else:
            kinds = {
                "relu": layers.ReLU,
                "add": layers.Add,
                "global_average_pool": layers.GlobalAveragePooling2D,
            }
            layer = kinds[node.operation]()
        values[node.name] = layer(inputs if len(inputs) > 1 else inputs[0])
        if node.operation == "conv":
            layer.set_weights([weights[f"{node.name}.kernel"]])
        elif node.operation == "dense":
            layer.set_weights([weights[f"{node.name}.kernel"], weights[f"{node.name}.bias"]])
    return keras.Model(values["input"], values[case.nodes[-1].name])


def _optimiser(case: Case) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(float(case.lrs[0]), momentum=0.9)


class Finder(keras.callbacks.Callback):
    """What the finders for Keras do: set the LR before each batch, read the loss after it."""

    def __init__(self, case: Case, notes: Notes):
        super().__init__()
        self.case, self.notes, self.total = case, notes, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = float(self.case.lrs[batch])

    def on_train_batch_end(self, batch, logs=None):
        # Keras reports the mean of the epoch so far.
        total = (batch + 1) * logs["loss"]
        self.notes.note(total - self.total, self.case.lrs[batch])
        self.total = total


def fit(case: Case, notes: Notes) -> None:
    """``Model.fit`` with a callback."""
    images, labels = case.batches()
    model = _model(case)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=_optimiser(case), loss=loss)
    model.fit(
        images,
        labels,
        batch_size=case.batch,
        shuffle=False,
        verbose=0,
        callbacks=[Finder(case, notes)],
    )


def loop(case: Case, notes: Notes) -> None:
    """A loop of one's own around a ``tf.function``."""
    images, labels = case.batches()
    model, optimiser = _model(case), _optimiser(case)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimiser.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    for i, lr in enumerate(case.lrs):
        part = slice(i * case.batch, (i + 1) * case.batch)
        optimiser.learning_rate = float(lr)
        notes.note(float(step(tf.constant(images[part]), tf.constant(labels[part]))), lr)
