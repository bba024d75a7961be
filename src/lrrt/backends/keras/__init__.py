"""The Keras backend, on TensorFlow."""

import contextlib

import numpy as np

from lrrt.backends.keras.framework import keras, tf
from lrrt.backends.keras.network import KerasNetwork
from lrrt.core.network import Node
from lrrt.core.protocol import Protocol
from lrrt.errors import InputError

POLICIES = {"float32": "float32", "tfloat32": "float32", "bfloat16": "mixed_bfloat16"}


def build(
    nodes: list[Node],
    protocol: Protocol,
    weights: dict[str, np.ndarray],
    *,
    precision: str = "float32",
    threads: int = 1,
    device: str = "cpu",
) -> KerasNetwork:
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
    use_threads(threads)
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


def use_threads(threads: int) -> None:
    """Of each operation, in this process; one operation runs at a time.

    Raises
    ------
    InputError
        If TensorFlow began with another number.
    """
    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() != threads:
        try:
            threading.set_intra_op_parallelism_threads(threads)
            threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            running = threading.get_intra_op_parallelism_threads()
            raise InputError("threads", threads, f"{running}, as TensorFlow began with") from None


def versions() -> dict[str, str]:
    return {"keras": keras.__version__, "tensorflow": tf.__version__}
