"""Resident memory of one worker process over many runs.

``python -m reliability.memory BACKEND RUNS`` prints it as JSON: MiB after each run.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from lrrt.runs.launchers._common import worker_variables

WARM = 20  # runs after which a framework has loaded and compiled what it uses


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def over(backend: str, runs: int) -> list[float]:
    """MiB after each of so many range tests, each with weights and an order of its own."""
    import numpy as np

    from lrrt.core.networks import resnet
    from lrrt.core.protocol import Protocol, Ramp
    from lrrt.datasets import Dataset
    from lrrt.runs.execute import execute
    from lrrt.runs.spec import RunSpec

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, 64)
    half = np.full(3, 0.5)
    dataset = Dataset(images, labels, images, labels, half, half, tuple("0123456789"), "")
    spec = RunSpec(
        "range_test",
        backend,
        Protocol(ramp=Ramp(steps=10)),
        resnet.Model(depth=8, width=8),
        dataset.digest,
        0,
        0,
        16,
        10,
    )
    found = []
    for seed in range(runs):
        execute(dataclasses.replace(spec, weights_seed=seed, order_seed=seed), dataset)
        found.append(resident())
    return found


def measured(backend: str, runs: int) -> dict:
    """The same in a process of its own with a worker's environment; where it stood, in brief."""
    command = [sys.executable, "-m", "reliability.memory", backend, str(runs)]
    environment = os.environ | worker_variables(backend, "cpu", 1)
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    mib = json.loads(done.stdout.splitlines()[-1])
    return {"runs": runs, "first": mib[0], "warm": mib[min(WARM, runs) - 1], "last": mib[-1]}


if __name__ == "__main__":
    print(json.dumps(over(sys.argv[1], int(sys.argv[2]))))
