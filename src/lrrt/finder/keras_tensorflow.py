"""What of TensorFlow's state Keras does not know: its random states, the shuffling of tf.data."""

from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from lrrt.finder.random_states import Later

IGNORE_STATE, RESOURCE = 1, tf.resource.as_datatype_enum


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
