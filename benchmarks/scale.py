"""``python benchmarks/scale.py``: what a sweep of many runs costs around the training itself.

The network costs nothing (``fake_backends/free.py``), batches and store are real. Prints a Markdown
table and writes ``benchmarks/results/scale.json``.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import lrrt.backends
from lrrt.analysis.suggestions import suggestion_table
from lrrt.compose import composed_yaml
from lrrt.config import LauncherSection, from_mapping
from lrrt.datasets import Dataset, save
from lrrt.experiments.sweep.design import sweep_specs
from lrrt.experiments.sweep.tables import curve_table
from lrrt.runs.launchers import local
from lrrt.runs.result_tables import write_table
from lrrt.runs.store import Result, Store

HERE = Path(__file__).parent
# At the top, so that worker processes, which import this file, find it, too.
lrrt.backends.__path__.append(str(HERE / "fake_backends"))
sys.path.insert(0, str(HERE))


def config_of(runs: int):
    import yaml

    overrides = [
        f"sweep.runs={runs}",
        f"sweep.crossed_runs={runs}",
        "sweep.batch_size=10",
        "data.train_images=1000",
        "data.test_images=100",
    ]
    return from_mapping(yaml.safe_load(composed_yaml(HERE.parent / "conf", overrides)))


def tiny_dataset() -> Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (1100, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(1100) % 10
    splits = (images[:1000], labels[:1000], images[1000:], labels[1000:])
    return Dataset(*splits, np.full(3, 0.5), np.full(3, 0.25), tuple("0123456789"), "random")


def synthetic_result(spec, random) -> Result:
    """A curve of the usual form, so that rules find what they look for."""
    lrs = np.geomspace(1e-7, 100, spec.steps)
    loss = 2.5 - 1.5 / (1 + (random.uniform(0.001, 0.01) / lrs)) + (lrs / 20) ** 2
    loss += random.normal(0, 0.02, spec.steps)
    arrays = {"lr": lrs, "loss": loss, "penalty": np.zeros(spec.steps), "grad_norm": loss}
    return Result(arrays, {"versions": {"lrrt": "0", "free": "1"}, "seconds": 1.0})


def measure(runs: int, executed: int) -> dict[str, float]:
    """Seconds of each part for ``runs`` runs of 100 steps; ``executed`` of them really run."""
    seconds, dataset, config = {"runs": runs}, tiny_dataset(), config_of(runs)

    def timed(name: str, function, *arguments):
        started, used = time.perf_counter(), time.process_time()
        value = function(*arguments)
        seconds[name] = time.perf_counter() - started
        seconds[f"{name}, CPU"] = time.process_time() - used  # of this process
        return value

    with tempfile.TemporaryDirectory() as folder:
        path, store = Path(folder) / "dataset.safetensors", Store(Path(folder) / "store")
        save(dataset, path)
        plan = (config, dataset.digest, "free", "blog_fastai", "weights")
        specs = timed("planning", sweep_specs, *plan)
        timed("keys", lambda: [spec.key for spec in specs])
        if executed:
            one = (specs[:executed], path, store, LauncherSection(workers=2))
            timed("executing", local.run, *one)
            seconds["executed"] = executed
        random = np.random.default_rng(0)
        rest = specs[executed:]
        timed("storing", lambda: [store.put(s, synthetic_result(s, random)) for s in rest])
        timed("nothing missing", local.run, specs, path, store, LauncherSection(workers=2))
        names = {"protocol": "blog_fastai", "sweep": "weights"}
        table = timed("collecting", curve_table, specs, names, store)
        timed("writing the table", write_table, Path(folder) / "curves.parquet", table)
        suggestions = timed("suggesting (all rules)", suggestion_table, table, config.protocols)
        seconds["suggestions"] = len(suggestions)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--executed", type=int, default=200, help="runs really carried out")
    options = parser.parse_args()
    from machine import describe

    rows = [measure(runs, min(options.executed, runs)) for runs in options.runs]
    names = [name.removesuffix(", CPU") for name in rows[0] if name.endswith(", CPU")]
    print("| part | " + " | ".join(f"{row['runs']:,} runs, s (CPU)" for row in rows) + " |")
    print("| --- |" + " ---: |" * len(rows))
    for name in names:
        shown = f"{name} ({options.executed} runs, 2 workers)" if name == "executing" else name
        values = (f"{row[name]:.2f} ({row[f'{name}, CPU']:.2f})" for row in rows)
        print(f"| {shown} | " + " | ".join(values) + " |")
    target = HERE / "results" / "scale.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
