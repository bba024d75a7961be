#!/usr/bin/env bash
# tensorflow 2.21.0, keras 3.15.1. The gradient of an embedding is an IndexedSlices; `tf.clip_by_global_norm`,
# `tf.linalg.global_norm` and Keras's `clipnorm` and `global_clipnorm` take the norm of its slices, not of the sum of
# those with one index. Seen: a row that a batch reads 64 times has a gradient of norm 128, the norm found is 16, and
# what was clipped to 1 has norm 8: the step is 8 times too long. Way out: `tf.convert_to_tensor` of the gradient first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 keras==3.15.1 numpy==2.4.6
export TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow CUDA_VISIBLE_DEVICES=
"$folder/venv/bin/python" - <<'PY'
import keras
import tensorflow as tf


def norm(gradient) -> float:
    return float(tf.norm(tf.convert_to_tensor(gradient)))


table = tf.Variable(tf.zeros((10, 4)))
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(tf.gather(table, [3] * 64))
gradient = tape.gradient(loss, table)
found = float(tf.linalg.global_norm([gradient]))
(clipped,), _ = tf.clip_by_global_norm([gradient], 1.0)
print(f"{type(gradient).__name__}: norm {norm(gradient):g}, global_norm says {found:g}")
print(f"clipped to 1 by clip_by_global_norm: norm {norm(clipped):g}")
assert (norm(gradient), found, norm(clipped)) == (128, 16, 8)
for option in ("clipnorm", "global_clipnorm"):
    variable = keras.Variable(tf.zeros((10, 4)))
    optimizer = keras.optimizers.SGD(1.0, **{option: 1.0})
    optimizer.build([variable])
    optimizer.apply([gradient])
    print(f"a step of Keras's SGD at rate 1 with {option}=1: length {norm(variable.value):g}")
    assert norm(variable.value) == 8
(dense,), _ = tf.clip_by_global_norm([tf.convert_to_tensor(gradient)], 1.0)
print(f"as a tensor first: norm {norm(dense):g}")
assert abs(norm(dense) - 1) < 1e-6
PY
