#!/usr/bin/env bash
# schedulefree 1.4.1. `optimizer.eval()` and `optimizer.train()` move the weights to the average and back, and do not
# come back to the same bits: a training that is validated is another one. Seen: 200 steps of AdamWScheduleFree on the
# same data, with the pair of calls after each step or without: the weights differ by about 3e-7. Way out: copy the
# weights before `eval()` and put them back after `train()`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet schedulefree==1.4.1 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import schedulefree
import torch


def trained(validates: bool, copies: bool = False) -> torch.Tensor:
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 3)
    optimizer = schedulefree.AdamWScheduleFree(model.parameters(), lr=0.05)
    inputs, targets = torch.randn(64, 8), torch.randint(0, 3, (64,))
    optimizer.train()
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        if validates:
            kept = [parameter.detach().clone() for parameter in model.parameters()]
            optimizer.eval()
            optimizer.train()
            for parameter, value in zip(model.parameters(), kept, strict=True):
                if copies:
                    parameter.data.copy_(value)
    return model.weight.detach()


plain = trained(False)
difference = (plain - trained(True)).abs().max().item()
print(f"validated after each step or never: the weights differ by {difference:.1e}")
assert 0 < difference < 1e-4
assert torch.equal(plain, trained(True, copies=True))
print("with the weights copied and put back: none")
PY
