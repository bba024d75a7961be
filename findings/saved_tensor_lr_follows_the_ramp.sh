#!/usr/bin/env bash
# PyTorch 2.13.0. A learning rate given as a tensor (as torch.compile wants it) is changed in place by schedulers. A
# finder that remembers `group["lr"]`, or `optimizer.state_dict()`, before its ramp remembers the same tensor, and
# "restores" the last rate of the ramp. Seen: 0.1 remembered, 0.8 afterwards. Way out: clone, or deep-copy.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import copy

import torch
from torch.optim.lr_scheduler import ExponentialLR

weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([weight], lr=torch.tensor(0.1))
remembered = optimizer.param_groups[0]["lr"]
state = optimizer.state_dict()
copied = copy.deepcopy(state)
ramp = ExponentialLR(optimizer, gamma=2.0)
for _ in range(3):
    optimizer.step()
    ramp.step()
optimizer.load_state_dict(state)
restored = float(optimizer.param_groups[0]["lr"])
optimizer.load_state_dict(copied)
from_copy = float(optimizer.param_groups[0]["lr"])
print(
    f"torch {torch.__version__}: began at 0.1; remembered {float(remembered):g}, "
    f"restored from state_dict() {restored:g}, from a deep copy {from_copy:g}"
)
assert abs(float(remembered) - 0.8) < 1e-6 and abs(restored - 0.8) < 1e-6
assert abs(from_copy - 0.1) < 1e-6
PY
