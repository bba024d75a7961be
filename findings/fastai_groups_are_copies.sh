#!/usr/bin/env bash
# fastai 2.8.12. `param_groups` of its optimisers, also of an OptimWrapper around PyTorch's, is made anew at each
# access: a learning rate that is set there is lost without a word, so a ramp or a suggestion has no effect. Seen: set
# to 0.5, read as 0.1, and the weights move by 0.1. Way out: `optimizer.set_hyper("lr", 0.5)`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastai==2.8.12 torch==2.13.0 torchvision==0.28.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from fastai.optimizer import SGD, OptimWrapper

kinds = {
    "fastai's SGD": lambda weight: SGD([weight], lr=0.1),
    "OptimWrapper": lambda weight: OptimWrapper([weight], torch.optim.SGD, lr=0.1),
}
for name, make in kinds.items():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = make(weight)
    optimizer.param_groups[0]["lr"] = 0.5
    weight.grad = torch.ones(1)
    optimizer.step()
    moved = 1 - weight.item()
    print(f"{name}: lr set to 0.5, read as {optimizer.param_groups[0]['lr']}, moved by {moved:.1f}")
    assert optimizer.param_groups[0]["lr"] == 0.1 and abs(moved - 0.1) < 1e-6

    optimizer.set_hyper("lr", 0.5)
    optimizer.step()
    print(f"{name}, set_hyper: moved by {1 - moved - weight.item():.1f}")
    assert abs(1 - moved - weight.item() - 0.5) < 1e-6
PY
