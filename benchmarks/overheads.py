"""What a person waits for beside training: commands, a pipeline with nothing to do, a cold start.

``overheads.py [--study FOLDER]``: FOLDER is a checkout in which ``dvc repro`` has run (default:
this one). Writes ``results/overheads.json`` and prints a table.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from machine import describe  # noqa: E402

from lrrt import config  # noqa: E402
from lrrt.runs.launchers._common import worker_variables  # noqa: E402

REPEATS = 5
ALONE = """
import time; started = time.perf_counter()
import {framework}
print([time.perf_counter() - started])
"""
COLD = """
import time; started = time.perf_counter()
import sys
import lrrt.backends.{backend}
from lrrt import config
from lrrt.datasets import open_dataset
from lrrt.runs.execute import execute
from lrrt.experiments.sweep.design import sweep_specs
from lrrt.experiments._design import with_ramp
dataset = open_dataset(sys.argv[1])
study = config.load(sys.argv[2])
spec = sweep_specs(study, dataset.digest, "{backend}", "blog_fastai", "weights")[0]
spec = with_ramp(spec, steps=10)
times = [time.perf_counter()]
for _ in range(2):
    execute(spec, dataset)
    times.append(time.perf_counter())
print([times[0] - started, times[1] - times[0], times[2] - times[1]])
"""

#: A user's module that says how long after importing PyTorch its model is first called.
MODULE = """
import time
import torch
imported = time.perf_counter()

class Model(torch.nn.Linear):
    called = False

    def forward(self, inputs):
        if not Model.called:
            Model.called = True
            print([time.perf_counter() - imported], flush=True)
        return super().forward(inputs)

def make_model():
    model = Model(8, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1), torch.nn.CrossEntropyLoss()

def make_data():
    return {"data": (torch.randn(64, 8), torch.randint(0, 2, (64,))), "batch_size": 8}
"""
BY_HAND = "import user; model, _, _ = user.make_model(); model(user.make_data()['data'][0])"


def first_step() -> dict[str, float]:
    """Seconds between importing PyTorch and the first step of an audit; of the same by hand, which
    begins with what PyTorch imports when an optimiser is made."""
    found: dict[str, list[float]] = {"lrrt audit": [], "by hand": []}
    lrrt = [str(Path(sys.executable).parent / "lrrt"), "audit", "user:make_model", "--runs", "1"]
    commands = {"lrrt audit": lrrt, "by hand": [sys.executable, "-c", BY_HAND]}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "user.py").write_text(MODULE)
        for _ in range(REPEATS):
            for name, command in commands.items():
                done = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, check=True
                )
                found[name].append(json.loads(done.stdout.splitlines()[0])[0])
    return {
        f"PyTorch imported, to the first step: {name}": statistics.median(seconds)
        for name, seconds in found.items()
    }


def median_seconds(command: list[str], folder: Path) -> float:
    """Wall-clock seconds of the command, median of :data:`REPEATS` after one that does not count.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    found = []
    for _ in range(REPEATS + 1):
        before = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        found.append(time.perf_counter() - before)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr or done.stdout}")
    return statistics.median(found[1:])


def medians(code: str, *arguments: str, variables: dict[str, str]) -> list[float]:
    """Of the list of numbers that ``code`` prints, over :data:`REPEATS` processes."""
    rows = []
    for _ in range(REPEATS):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env=os.environ | variables,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def cold_start(backend: str, study: Path, name: str) -> dict[str, float]:
    """Seconds of importing the framework alone; of importing our backend with it and opening the
    data; and what the first range test of ten steps takes more than the second: set-up."""
    variables = worker_variables(backend, "cpu", 1)
    paths = [str(study / "data" / name / "dataset.safetensors"), str(study / "params.yaml")]
    (alone,) = medians(ALONE.format(framework=backend), variables=variables)
    ready, first, second = medians(COLD.format(backend=backend), *paths, variables=variables)
    return {
        f"importing {backend} alone": alone,
        f"{backend}: our modules and data beside it": ready - alone,
        f"{backend}: set-up of the first range test": first - second,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=HERE.parent)
    options = parser.parse_args()
    study, bin_ = options.study.resolve(), Path(sys.executable).parent
    name = config.load(study / "params.yaml").study.name
    python, lrrt, dvc = sys.executable, str(bin_ / "lrrt"), str(bin_ / "dvc")
    before, seconds = describe(), {}
    for title, command in (
        ("python, nothing done", [python, "-c", ""]),
        ("import lrrt", [python, "-c", "import lrrt"]),
        ("lrrt --help", [lrrt, "--help"]),
        ("lrrt list", [lrrt, "list"]),
        ("lrrt rules", [lrrt, "rules"]),
        ("lrrt compose --show", [lrrt, "compose", "--show"]),
        ("dvc repro, nothing to do", [dvc, "repro"]),
        ("report stage", [python, "-m", "lrrt.stages.report"]),
    ):
        seconds[title] = median_seconds(command, study)
    seconds |= first_step()
    for backend in ("torch", "keras"):
        seconds |= cold_start(backend, study, name)
    for title, value in seconds.items():
        print(f"| {title} | {value:.2f} |")
    record = {"seconds": seconds, "before": before, "after": describe()}
    (HERE / "results" / "overheads.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
