#!/usr/bin/env bash
# accelerate 1.15.0. A schedule that was prepared takes one step for each process at every call, so that a schedule
# written for one process ends at the right epoch. A ramp over a number of steps is then over early, and recorded at
# rates that no formula of the step gives. Seen: a factor of 10 a step, two processes: 1, 100, 10000 where one has
# 1, 10, 100. Way out: leave the ramp unprepared, or Accelerator(step_scheduler_with_optimizer=False).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
cat > "$folder/ramp.py" <<'PY'
import accelerate
import torch

accelerator = accelerate.Accelerator(cpu=True)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
ramp = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=10.0)
model, optimizer, ramp = accelerator.prepare(model, optimizer, ramp)
rates = []
for _ in range(3):
    rates.append(optimizer.param_groups[0]["lr"])
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    ramp.step()
    optimizer.zero_grad()
if accelerator.is_main_process:
    print(f"accelerate {accelerate.__version__}, {accelerator.num_processes} processes: {rates}")
assert rates == {1: [1.0, 10.0, 100.0], 2: [1.0, 100.0, 10000.0]}[accelerator.num_processes]
PY
export OMP_NUM_THREADS=1
"$folder/venv/bin/python" "$folder/ramp.py"
"$folder/venv/bin/python" -m torch.distributed.run --nproc-per-node 2 "$folder/ramp.py" 2>/dev/null
