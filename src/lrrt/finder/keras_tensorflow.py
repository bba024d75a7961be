"""What of TensorFlow's state Keras does not know: its random states, the shuffling of tf.data."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from lrrt.finder.random_states import Later

IGNORE_STATE, RESOURCE = 1, tf.resource.as_datatype_enum
ARRAYS = np.ndarray, tf.Tensor


def keep_random(later: Later) -> None:
    """TensorFlow's global generator and the seeds of its stateful operations return on leaving."""
    generator = tf.random.get_global_generator()
    state = tf.identity(generator.state)
    later(tf.random.set_global_generator, generator)
    later(generator.state.assign, state)
    # Each stateful operation draws its seed here; no public function reads the state of it.
    eager = context.context()
    if not hasattr(eager, "_rng") or not hasattr(eager, "_seed"):
        return
    seed, seeds = eager._seed, eager._rng
    drawn = None if seeds is None else seeds.getstate()

    def put_back() -> None:
        if eager._rng is seeds and (seeds is None or seeds.getstate() == drawn):
            return
        eager._seed, eager._rng = seed, seeds
        if seeds is not None:
            seeds.setstate(drawn)
        # An operation is found again by its seed, in the state it then has: forget it.
        eager.clear_kernel_cache()

    later(put_back)


def is_dataset(data: Any) -> bool:
    return isinstance(data, tf.data.Dataset)


def independent(dataset: tf.data.Dataset) -> tf.data.Dataset | None:
    """The same data set with shuffling of its own, in the state that it had when it was made.

    Iterating a shuffled data set moves it on to another order, and TensorFlow cannot move it back.
    So its graph is copied, and each shuffle in it given a new seed generator of the same seeds.
    None where TensorFlow cannot copy it.
    """
    try:
        serialised = tf.raw_ops.DatasetToGraphV2(
            input_dataset=tf.data.experimental.to_variant(dataset),
            external_state_policy=IGNORE_STATE,
        )
        graph = tf.compat.v1.GraphDef.FromString(serialised.numpy())
        read_by_shuffles = {
            name for node in graph.node if node.op.startswith("Shuffle") for name in node.input
        }
        for node in graph.node:
            is_resource = node.op == "Const" and node.attr["dtype"].type == RESOURCE
            if is_resource and node.name in read_by_shuffles:
                name = node.name
                node.Clear()
                node.name, node.op = name, "DummySeedGenerator"
        variant = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
        return tf.data.experimental.from_variant(variant, dataset.element_spec)
    except (tf.errors.OpError, ValueError):
        return None


class TrainFunction:
    """One training step of a compiled model in one call: rates, penalties, metrics and ``fit``'s
    own step. It is traced once for a model and kept with it, while the model stays as it is.
    """

    KEPT_AS = "_range_test_function"  # of the model: past its own way of setting attributes

    def __init__(self, model: keras.Model, steered: list[tuple[Any, float]]):
        self.model, self.steered = model, steered
        model.train_function = None
        model.make_train_function()
        one_step = model.train_function

        def step(rates: list, batch: Any) -> tuple[Any, list]:
            for (variable, _), rate in zip(steered, rates, strict=True):
                variable.assign(rate)
            penalties = [weight.regularizer(weight) for weight in regularised_weights(model)]
            model.reset_metrics()
            return one_step(iter([batch])), penalties

        self.step = tf.function(step, reduce_retracing=True, autograph=False)
        self.traces: dict[tuple, Any] = {}  # of batches of arrays, by their shapes and types
        self.parts: list[tuple[Any, dict, dict]] = []
        self.known: tuple = ()

    def __call__(self, lr: float, batch: Any) -> tuple[float, float]:
        """Penalty and loss of one step at ``lr``, the penalty in it."""
        rates = [tf.constant(lr * ratio, variable.dtype) for variable, ratio in self.steered]
        logs, penalties = self._traced(rates, batch)
        return sum(float(penalty) for penalty in penalties), float(logs["loss"])

    def _traced(self, rates: list, batch: Any) -> tuple[dict, list]:
        """``self.step``; its trace is looked up once for arrays of the same shapes and types, which
        takes as long as a step of a small model."""
        if not isinstance(batch, tuple) or not all(isinstance(a, ARRAYS) for a in batch):
            return self.step(rates, batch)
        batch = tuple(tf.convert_to_tensor(array) for array in batch)
        signature = tuple((array.shape, array.dtype) for array in batch)
        if signature not in self.traces:
            self.traces[signature] = self.step.get_concrete_function(rates, batch)
        return self.traces[signature](rates, batch)

    @classmethod
    def of(
        cls, model: keras.Model, steered: list[tuple[Any, float]], batch: Any
    ) -> "TrainFunction | None":
        """That of ``model``, if it has one and fits, or a new one; None for a model whose steps are
        its own."""
        standard = (
            type(model).train_step is keras.Model.train_step
            and type(model).make_train_function is keras.Model.make_train_function
            and not model.run_eagerly
            and not tf.distribute.has_strategy()
        )
        if not standard:
            return None
        kept = vars(model).get(cls.KEPT_AS)
        if kept is not None and kept.known == (*_description(model), *_identities(model, steered)):
            for part, attributes, contents in kept.parts:
                vars(part).clear()
                vars(part).update(attributes)
                for name, items in contents.items():
                    list.clear(attributes[name])
                    list.extend(attributes[name], items)
            return kept
        model._symbolic_build(data_batch=batch)
        return cls(model, steered)

    def remember(self, built: list[Any]) -> None:
        """Keep it with the model, and the parts that fit has not built."""
        described = _description(self.model)
        if not described:
            return
        for part in built:
            attributes = dict(vars(part))
            lists = {name: list(v) for name, v in attributes.items() if isinstance(v, list)}
            self.parts.append((part, attributes, lists))
        self.known = (*described, *_identities(self.model, self.steered))
        vars(self.model)[self.KEPT_AS] = self


def regularised_weights(model: keras.Model) -> list[Any]:
    return [weight for weight in model.trainable_weights if weight.regularizer is not None]


def _description(model: keras.Model) -> tuple:
    """What of a model's layers and optimiser is built into a trace; empty where it is not known."""
    if type(model) is not keras.Sequential and type(model).__name__ != "Functional":
        return ()
    optimizer = model.optimizer.get_config()
    return model.get_config(), {k: v for k, v in optimizer.items() if k != "learning_rate"}


def _identities(model: keras.Model, steered: list[tuple[Any, float]]) -> tuple:
    parts = (model.optimizer, model._compile_loss, model._compile_metrics, model.jit_compile)
    variables = (*model.trainable_variables, *model.variables, *model.optimizer.variables)
    return tuple(map(id, (*parts, *variables, *(variable for variable, _ in steered))))
