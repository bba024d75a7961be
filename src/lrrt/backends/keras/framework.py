"""TensorFlow and Keras, set up: what uses either imports it from here.

Nothing else of a process may import TensorFlow before."""

import contextlib
import os
import sys
from collections.abc import Iterator

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
    import keras as keras
    import tensorflow as tf  # noqa: F401  for whoever imports it from here
