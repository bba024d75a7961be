"""An audit of ten runs on one process and on several: seconds, their ratio, peak memory.

``python benchmarks/audit.py [--workers N] [--rounds N]`` writes ``results/audit.json``. The two
stand side by side in each round, in fresh processes, in turns; results must be equal to the bit.
``before`` is one process with PyTorch's own number of threads, as audits ran until commit f7cdb9b.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "audit.json"
RUNS, STEPS, BATCH = 10, 100, 64


def make_model():
    from torch import nn, optim

    def block(inputs, outputs, stride=1):
        return [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(3, 32), *block(32, 64, 2), *block(64, 64), *block(64, 128, 2)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    return model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss()


def make_data():
    import numpy as np

    random = np.random.default_rng(0)
    x = random.standard_normal((2048, 3, 16, 16)).astype("float32")
    return {"data": (x, x.mean((1, 2, 3)).argsort() % 10), "batch_size": BATCH}


def measure(workers: int, runs: int, as_before: bool) -> dict:
    """In this process: seconds of an audit, its digest, peak memory of a process."""
    import contextlib

    import torch

    import lrrt
    from lrrt.finder import audit as module

    if as_before:
        module.one_thread = contextlib.nullcontext
    torch.ones(1).sum().item()
    before, started = time.process_time(), time.perf_counter()
    found = lrrt.audit(make_model, make_data, runs=runs, steps=STEPS, workers=workers, stop=None)
    seconds = time.perf_counter() - started
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    losses = hashlib.sha256(b"".join(curve.loss.tobytes() for curve in found.curves))
    return {
        "seconds": seconds,
        "cpu": [time.process_time() - before, usage[1].ru_utime + usage[1].ru_stime],
        "peak_mib": [used.ru_maxrss / 1024 for used in usage],
        "digest": losses.hexdigest(),
    }


def in_fresh_process(*arguments: str) -> dict:
    command = [sys.executable, __file__, "--measure", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        workers, runs, as_before = options.measure
        print(json.dumps(measure(int(workers), int(runs), as_before == "before")))
        return
    rounds = []
    load = os.getloadavg()
    for number in range(options.rounds):
        cases = {
            "before": ("1", str(RUNS), "before"),
            "one": ("1", str(RUNS), "now"),
            "several": (str(options.workers), str(RUNS), "now"),
            "one run": ("1", "1", "now"),
        }
        order = list(cases) if number % 2 == 0 else list(cases)[::-1]
        found = {name: in_fresh_process(*cases[name]) for name in order}
        assert found["one"]["digest"] == found["several"]["digest"]
        rounds.append(found)
        print({name: round(case["seconds"], 1) for name, case in found.items()}, flush=True)
    ratios = {
        name: [r[name]["seconds"] / r["several"]["seconds"] for r in rounds]
        for name in ("before", "one")
    }
    memory = {
        name: max(max(r[name]["peak_mib"]) for r in rounds)
        / max(r["one run"]["peak_mib"][0] for r in rounds)
        for name in ("one", "several")
    }
    helpers = options.workers - 1
    summary = {
        "workers": options.workers,
        "faster than one process with all threads": statistics.median(ratios["before"]),
        "faster than one process": statistics.median(ratios["one"]),
        "peak memory of a process, of one run's": memory,
        "load before": load,
        "load after": os.getloadavg(),
        # A busy machine stretches seconds, not what each process computes.
        "CPU of one process, of the busiest of several": statistics.median(
            r["one"]["cpu"][0] / max(r["several"]["cpu"][0], r["several"]["cpu"][1] / helpers)
            for r in rounds
        ),
        "ratios": ratios,
        "rounds": rounds,
    }
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({k: v for k, v in summary.items() if k not in ("rounds",)}, indent=1))


if __name__ == "__main__":
    main()
