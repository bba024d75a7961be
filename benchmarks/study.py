"""The default study from nothing, as of this commit and of an earlier one, in turns.

``study.py [--before COMMIT] [--rounds N]``: each round makes a clone of this repository per commit
and runs ``dvc repro`` there, with this environment's packages. Runs in the store by their kind,
wall-clock seconds, CPU seconds, and peak memory of all processes together (proportional set size,
so that shared pages count once). Writes ``results/study.json``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import yaml
from safetensors import safe_open

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from machine import describe  # noqa: E402
from run import interval  # noqa: E402

OUTPUT = HERE / "results" / "study.json"
SAMPLE_SECONDS = 0.25


def look_at(session: int, cpu: dict[int, float]) -> int:
    """Bytes of all processes of ``session``; their CPU seconds so far go into ``cpu``. (A worker
    that waits for a stage is nobody's child.)"""
    total = 0
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                total += process.memory_full_info().pss
                cpu[process.pid] = sum(process.cpu_times()[:2])
        except (psutil.Error, ProcessLookupError):
            continue
    return total


def study(commit: str, folder: Path) -> dict:
    """Of a new clone in ``folder``: seconds, CPU seconds, peak memory in MiB, runs by kind."""
    clone = ["git", "clone", "--quiet", "--shared", "--no-checkout", str(HERE.parent), str(folder)]
    subprocess.run(clone, check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)
    (folder / "dvc.lock").unlink(missing_ok=True)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(folder)]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    environment.pop("OMP_NUM_THREADS", None)
    started, peak, cpu = time.perf_counter(), 0, {}
    process = subprocess.Popen(
        ["dvc", "repro", "--quiet"],
        cwd=folder,
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None:
        peak = max(peak, look_at(process.pid, cpu))
        time.sleep(SAMPLE_SECONDS)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(process.stderr.read())
    kinds: Counter[str] = Counter()
    name = yaml.safe_load((folder / "params.yaml").read_text())["study"]["name"]
    for path in folder.glob(f"data/{name}/store/*/*.safetensors"):
        with safe_open(path, "numpy") as file:
            kinds[json.loads(file.metadata()["spec"]).get("kind", "range_test")] += 1
    return {
        "seconds": seconds,
        "cpu": sum(cpu.values()),
        "peak_mib": peak / 2**20,
        "runs": dict(kinds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", metavar="COMMIT")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    commits = {"now": "HEAD"} | ({"before": options.before} if options.before else {})
    machine, rounds = describe(), []
    for number in range(options.rounds):
        found = {}
        for name in list(commits)[:: 1 if number % 2 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                found[name] = study(commits[name], Path(folder) / "lrrt")
            print(name, found[name], flush=True)
        rounds.append(found)
        record = {"rounds": rounds, "commits": commits, "before": machine, "after": describe()}
        if options.before:
            rates = [
                {name: sum(one["runs"].values()) / one["seconds"] for name, one in each.items()}
                for each in rounds
            ]
            ratios = np.array([rate["now"] / rate["before"] for rate in rates])
            record["runs a second, now against before"] = interval(ratios)
        OUTPUT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
