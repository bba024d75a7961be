#!/usr/bin/env bash
# keras 3.15.1. Ftrl computes each weight anew from its own sums, which do not know the initial value: its first step
# takes nearly all of it away, whatever the learning rate. Seen: at a rate of 1e-7 a weight of 1 with a gradient of
# 0.01 is 0.0005 after one step, SGD's and Adam's is 1. So a range test begins with a wiped network, and so does the
# fine-tuning of a trained one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet keras==3.15.1 torch==2.13.0 numpy==2.4.6
KERAS_BACKEND=torch "$folder/venv/bin/python" - <<'PY'
import keras
import numpy as np

found = {}
for kind in (keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.Ftrl):
    weight = keras.Variable(np.ones(1, "float32"))
    optimizer = kind(1e-7)
    optimizer.build([weight])
    optimizer.apply([keras.ops.full((1,), 0.01)])
    found[kind.__name__] = float(keras.ops.convert_to_numpy(weight)[0])
print(f"keras {keras.__version__}, a weight of 1 after one step at 1e-7: {found}")
assert found["SGD"] > 0.999 and found["Adam"] > 0.999 and 0.0004 < found["Ftrl"] < 0.0006
PY
