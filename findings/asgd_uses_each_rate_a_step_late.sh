#!/usr/bin/env bash
# PyTorch 2.13.0. ASGD computes the rate of a step at the end of the step before: a learning rate that is set, by a
# schedule or a ramp, is used one step later. Seen: rates 0.001, 0.01, 0.1, 1 with a gradient of 1 move a weight by
# 0.001, 0.001, 0.01, 0.1. So a loss is recorded beside a rate that the step after it has not used.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch

rates, moved = [0.001, 0.01, 0.1, 1.0], {}
for kind in (torch.optim.SGD, torch.optim.ASGD):
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = kind([weight], lr=rates[0])
    moved[kind.__name__] = []
    for rate in rates:
        before = weight.item()
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        moved[kind.__name__].append(round(before - weight.item(), 4))
print(f"torch {torch.__version__}, set to {rates}: {moved}")
assert moved == {"SGD": rates, "ASGD": [0.001, 0.001, 0.01, 0.1]}
PY
