"""``python benchmarks/run.py``: range tests of one network by all contestants, side by side.

Every contestant runs the same steps: same initial weights, same batches, SGD with momentum, early
stop off. Each is a process of its own (ours: one for each core), in an order that turns from round
to round. A step's time is from one loss to the next. Losses are compared first: whose differ has no
times. With ``--peer-threads 1`` the ratios are of CPU seconds a step.

Writes ``benchmarks/results/<name>.json`` and ``.md``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
from case import Case  # noqa: E402
from machine import describe  # noqa: E402
from scipy import stats  # noqa: E402

from lrrt.runs.launchers._common import worker_variables  # noqa: E402

FULL_STEPS = 98  # of a range test at batch 512 on CIFAR-10
TOLERANCE = 1e-4  # relative, of each loss


@dataclass(frozen=True)
class Contestant:
    """``processes`` at a time with ``threads`` each; ``ours``: with a worker's environment."""

    title: str
    module: str
    function: str
    framework: str = "torch"
    processes: int = 1
    threads: int = 2
    ours: bool = False
    exact: bool = True  # its losses must be the reference's


CORES = 2
OURS = dict(module="ours", processes=CORES, threads=1, ours=True)
CONTESTANTS = {
    "ours": Contestant("ours, PyTorch", function="study", **OURS),
    "bare": Contestant("our PyTorch step, bare loop", function="bare", **OURS),
    "torch_lr_finder": Contestant("torch-lr-finder", "pytorch", "torch_lr_finder"),
    "fastai": Contestant("fastai lr_find", "pytorch", "fastai"),
    "lightning": Contestant("Lightning lr_find", "pytorch", "lightning"),
    "plain": Contestant("plain PyTorch loop", "pytorch", "plain"),
    "plain_tuned": Contestant("plain loop, channels-last", "pytorch", "plain_tuned"),
    "validated": Contestant("ours, validated at every step", function="validated", **OURS),
    "bfloat16": Contestant("ours, bfloat16", function="bfloat16", exact=False, **OURS),
    "keras_ours": Contestant("ours, Keras", function="study", framework="keras", **OURS),
    "keras_bare": Contestant(
        "our Keras step, bare loop", function="bare", framework="keras", **OURS
    ),
    "keras_fit": Contestant("Keras fit, callback", "tensorflow", "fit", "keras"),
    "keras_loop": Contestant("plain Keras loop", "tensorflow", "loop", "keras"),
    "floor": Contestant(
        "convolution kernels",
        "floor",
        "kernels",
        processes=CORES,
        threads=1,
        ours=True,
        exact=False,
    ),
}


def carry_out(contestant: Contestant, case: Case, python: str, folder: Path) -> list[dict]:
    """The notes of each of the contestant's processes, which run at the same time."""
    variables = dict(os.environ)
    if contestant.ours:
        variables |= worker_variables(contestant.framework, "cpu", contestant.threads)
    threads = str(contestant.threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    variables |= dict.fromkeys(names, threads)
    outputs = [folder / f"{i}.json" for i in range(contestant.processes)]
    command = [python, str(HERE / "contest.py"), contestant.module, contestant.function]
    processes = [
        subprocess.Popen(
            [*command, json.dumps(asdict(case)), str(output)],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=open(output.with_suffix(".log"), "w"),
        )
        for output in outputs
    ]
    for process, output in zip(processes, outputs, strict=True):
        if process.wait():
            log = output.with_suffix(".log").read_text().strip().splitlines()
            raise RuntimeError(log[-1] if log else f"exit status {process.returncode}")
    return [json.loads(output.read_text()) for output in outputs]


def agree(notes: dict, reference: dict) -> bool:
    """Whether losses are the reference's as long as the learning rates have been."""
    count = min(len(notes["losses"]), len(reference["losses"]))
    one, two = (np.array(n["lrs"][:count]) for n in (notes, reference))
    same = np.isclose(one, two, rtol=1e-5)
    # A loss depends on the learning rates of the steps before it.
    known = 1 + int(np.argmin(np.append(same, False)))
    first, second = (np.array(n["losses"][: min(known, count)]) for n in (notes, reference))
    return bool(np.allclose(first, second, rtol=TOLERANCE))


def summary(all_notes: list[dict], batch: int) -> dict:
    """Of one contestant in one round; warm steps are those after the first interval."""
    wall = [np.median(np.diff(n["wall"])[1:]) for n in all_notes]
    processor = [np.median(np.diff(n["processor"])[1:]) for n in all_notes]
    return {
        # Processes that each take t seconds a step do one step every t / processes.
        "seconds": float(1 / np.sum(1 / np.array(wall))),
        "processor_seconds": float(np.mean(processor)),
        "cold_seconds": float(max(n["wall"][0] - n["started"] for n in all_notes)),
        "peak_mib": sum(n["peak_mib"] for n in all_notes),
    }


def interval(ratios: np.ndarray) -> tuple[float, float, float]:
    """Geometric mean and its 95 % interval by Student's t over rounds."""
    logs = np.log(ratios)
    if len(logs) < 2:
        return float(ratios[0]), float("nan"), float("nan")
    low, high = stats.t.interval(0.95, len(logs) - 1, logs.mean(), stats.sem(logs) or 1e-12)
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))


def print_ratios(results: dict) -> None:
    """A row a case and ratio: a number, or a tuple of :func:`interval`."""
    for case, row in results.items():
        for what, value in row.items():
            if isinstance(value, float):
                print(f"| {case} | {what} | {value:.2f} |")
            elif isinstance(value, tuple):
                middle, low, high = value
                print(f"| {case} | {what} | {middle:.2f} ({low:.2f}–{high:.2f}) |")


def table(results: dict, case: dict) -> str:
    lines = [
        "| contestant | s/step | CPU s/step | ours is faster by (95 %) | tests/hour | of floor "
        "| cold start, s | peak memory, MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    floor = results.get("floor", {}).get("floor_seconds")
    for name, result in results.items():
        if name == "floor":
            continue
        if "problem" in result:
            lines.append(f"| {result['title']} | {result['problem']} | | | | | | |")
            continue
        seconds = float(np.median([r["seconds"] for r in result["rounds"]]))
        processor = float(np.median([r["processor_seconds"] for r in result["rounds"]]))
        ratio = "" if "ratio" not in result else "{:.2f} ({:.2f}–{:.2f})".format(*result["ratio"])
        share = f"{floor / seconds:.0%}" if floor and result["exact"] else ""
        cold = np.median([r["cold_seconds"] for r in result["rounds"]])
        peak = max(r["peak_mib"] for r in result["rounds"])
        lines.append(
            f"| {result['title']} | {seconds:.3f} | {processor:.2f} | {ratio} "
            f"| {3600 / (FULL_STEPS * seconds):.1f} | {share} | {cold:.1f} | {peak:,} |"
        )
    if floor:
        lines.append(f"| convolution kernels alone | {floor:.3f} | | | | 100% | | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=56)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", help="of the result files; by default the size of the case")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--python", default=sys.executable, help="one that has the peers")
    parser.add_argument(
        "--peer-threads",
        type=int,
        default=CORES,
        help="1: all on one thread, so that CPU seconds compare on a machine that is not quiet",
    )
    parser.add_argument("--note", default="", help="recorded with the results")
    options = parser.parse_args()
    if options.steps < 6:
        parser.error("--steps must be at least 6, which is fastai's least")
    size = dict(depth=options.depth, batch=options.batch, steps=options.steps)
    cases = {framework: Case(**size, framework=framework) for framework in ("torch", "keras")}
    ours_of = {"torch": "ours", "keras": "keras_ours"}
    results = {
        name: {"title": c.title, "exact": c.exact, "rounds": []}
        for name, c in CONTESTANTS.items()
        if name in options.only
    }
    references: dict[str, dict] = {}
    before = describe()
    for turn in range(options.rounds):
        order = options.only[turn % len(options.only) :] + options.only[: turn % len(options.only)]
        if turn == 0:  # the references first
            order.sort(key=lambda name: name not in ours_of.values())
        for name in order:
            contestant, result = CONTESTANTS[name], results[name]
            if not contestant.ours:
                contestant = replace(contestant, threads=options.peer_threads)
            if "problem" in result:
                continue
            case = cases[contestant.framework]
            with tempfile.TemporaryDirectory() as folder:
                try:
                    notes = carry_out(contestant, case, options.python, Path(folder))
                except RuntimeError as error:
                    result["problem"] = f"failed: {error}"
                    print(name, result["problem"], flush=True)
                    continue
            if name == "floor":
                # Both cores at once: so many steps of all at a time.
                seconds = 1 / sum(1 / n["losses"][0] for n in notes)
                result["floor_seconds"] = min(result.get("floor_seconds", seconds), seconds)
                print(name, f"{seconds:.3f} s/step", flush=True)
                continue
            reference = references.setdefault(contestant.framework, notes[0])
            if contestant.exact and not all(agree(n, reference) for n in notes):
                result["problem"] = "losses differ"
                result["losses"] = notes[0]["losses"], reference["losses"]
                print(name, result["problem"], result["losses"], flush=True)
                continue
            result["rounds"].append(summary(notes, options.batch))
            print(name, f"{result['rounds'][-1]['seconds']:.3f} s/step", flush=True)
    for name, result in results.items():
        own = results.get(ours_of[CONTESTANTS[name].framework])
        if not own or own is result or not own["rounds"] or not result["rounds"]:
            continue
        pairs = zip(result["rounds"], own["rounds"], strict=False)
        kind = "seconds" if options.peer_threads > 1 else "processor_seconds"
        result["ratio"] = interval(np.array([a[kind] / b[kind] for a, b in pairs]))
    name = options.name or f"resnet{options.depth}-batch{options.batch}"
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    record = {
        "case": size,
        "rounds": options.rounds,
        "peer_threads": options.peer_threads,
        "note": options.note,
        "before": before,
        "after": describe(),
        "results": results,
    }
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / f"{name}.md").write_text(table(results, size))
    print(table(results, size))


if __name__ == "__main__":
    main()
