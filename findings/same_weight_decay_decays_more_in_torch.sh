#!/usr/bin/env bash
# PyTorch 2.13.0 beside Keras 3.15.1. SGD(learning_rate 0.1, momentum 0.9, weight_decay 0.01) has one spelling and two
# meanings: PyTorch adds it to the gradient, so that momentum multiplies it by up to ten; Keras shrinks the weights
# by lr * weight_decay, outside momentum. Seen: with no gradient, after 100 steps a weight of 1 is 0.369 in PyTorch
# and 0.905 in Keras; without momentum both give 0.905. A ramp or a suggestion moved from one to the other moves
# with it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 keras==3.15.1
"$folder/venv/bin/python" - <<'PY'
import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np
import torch


def by_torch(momentum):
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=momentum, weight_decay=0.01)
    for _ in range(100):
        weight.grad = torch.zeros(1)
        optimizer.step()
    return weight.item()


def by_keras(momentum):
    weight = keras.Variable(np.ones(1, "float32"))
    optimizer = keras.optimizers.SGD(0.1, momentum=momentum, weight_decay=0.01)
    optimizer.build([weight])
    for _ in range(100):
        optimizer.apply([keras.ops.zeros(1)])
    return float(keras.ops.convert_to_numpy(weight)[0])


found = {(m, f.__name__): round(f(m), 3) for m in (0.0, 0.9) for f in (by_torch, by_keras)}
print(f"torch {torch.__version__}, keras {keras.__version__}: {found}")
assert found == {
    (0.0, "by_torch"): 0.905, (0.0, "by_keras"): 0.905, (0.9, "by_torch"): 0.369, (0.9, "by_keras"): 0.905
}
PY
