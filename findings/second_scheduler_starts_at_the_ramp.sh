#!/usr/bin/env bash
# PyTorch 2.13.0. A finder that ramps with a scheduler leaves `initial_lr` in the parameter groups. The next
# scheduler starts from that value, not from the learning rate that was set in between: the training that follows
# runs at the first rate of the ramp. Seen: lr set to 0.1, LambdaLR made, lr is 1e-07. Way out: delete
# `initial_lr` from every group, or make the optimiser anew.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR

weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([weight], lr=1e-7)
ramp = ExponentialLR(optimizer, gamma=10.0)
for _ in range(3):
    optimizer.step()
    ramp.step()
(group,) = optimizer.param_groups
group["lr"] = 0.1  # what the finder suggested
LambdaLR(optimizer, lambda epoch: 1.0)
print(f"torch {torch.__version__}: lr set to 0.1; after LambdaLR was made it is {group['lr']:g}")
assert group["lr"] == 1e-7

del group["initial_lr"]
group["lr"] = 0.1
LambdaLR(optimizer, lambda epoch: 1.0)
print(f"without initial_lr: {group['lr']:g}")
assert group["lr"] == 0.1
PY
