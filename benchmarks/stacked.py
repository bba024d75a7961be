"""Trainings of an MLP, stacked and one at a time, side by side: CPU seconds, ratio, difference.

``python benchmarks/stacked.py``: the ground truth's MLP settings, 45 trainings each (22 learning
rates and policies by two seeds, and one). Rounds alternate; a ratio is that of one round.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
from machine import describe  # noqa: E402

from lrrt.config import DataSection  # noqa: E402
from lrrt.core.networks import mlp  # noqa: E402
from lrrt.core.protocol import Protocol, WeightDecay  # noqa: E402
from lrrt.datasets import Dataset, load  # noqa: E402
from lrrt.runs.execute import execute  # noqa: E402
from lrrt.runs.spec import RunSpec  # noqa: E402
from lrrt.runs.stacked import execute_stack  # noqa: E402

PLAIN = Protocol(augmentation="none", flip=False)
DECAYED = WeightDecay("decoupled", 0.01)
PROTOCOLS = {
    "sgd": (PLAIN, 10.0),
    "adamw": (dataclasses.replace(PLAIN, optimizer="adamw", weight_decay=DECAYED), 1.0),
}


def grid(dataset: Dataset, optimizer: str, batch_size: int, epochs: int) -> list[RunSpec]:
    protocol, highest = PROTOCOLS[optimizer]
    base = RunSpec(
        kind="training",
        backend="torch",
        protocol=protocol,
        model=mlp.Model(),
        data_digest=dataset.digest,
        weights_seed=0,
        order_seed=0,
        batch_size=batch_size,
        steps=60,
        epochs=epochs,
    )
    found = [
        dataclasses.replace(base, lr=lr, policy=policy, weights_seed=seed, order_seed=seed)
        for seed in (0, 1)
        for lr in np.geomspace(1e-5 * highest, highest, 11).tolist()
        for policy in ("constant", "one_cycle")
    ]
    return [*found, dataclasses.replace(base, lr=1e-3 * highest, weights_seed=2, order_seed=2)]


def seconds(work, *arguments) -> tuple[float, list]:
    started = time.process_time()
    results = work(*arguments)
    return time.process_time() - started, results


def compare(dataset: Dataset, optimizer: str, batch_size: int, rounds: int) -> dict:
    def singles(specs: list[RunSpec]) -> list:
        return [execute(spec, dataset) for spec in specs]

    def stack(specs: list[RunSpec]) -> list:
        return execute_stack(tuple(dataclasses.replace(s, stacked=True) for s in specs), dataset)

    one_by_one, at_once = [], []
    specs = grid(dataset, optimizer, batch_size, epochs=10)
    singles(specs[:1]), stack(specs[:1])  # libraries set themselves up
    for _ in range(rounds):
        taken, _ = seconds(singles, specs)
        one_by_one.append(taken)
        taken, _ = seconds(stack, specs)
        at_once.append(taken)
    # Of 60 steps, at the rates up to a tenth of the highest: beyond, rounding errors grow.
    short = [s for s in grid(dataset, optimizer, batch_size, epochs=1) if s.lr < specs[-1].lr * 101]
    losses = [[r.arrays["train_loss"][0] for r in work(short)] for work in (singles, stack)]
    ratios = [a / b for a, b in zip(one_by_one, at_once, strict=True)]
    return {
        "optimizer": optimizer,
        "batch_size": batch_size,
        "trainings": len(specs),
        "single_seconds": one_by_one,
        "stacked_seconds": at_once,
        "ratios": ratios,
        "largest_difference": float(np.max(np.abs(np.divide(*losses) - 1))),
    }


def table(records: list[dict]) -> str:
    lines = [
        "| optimiser | batch | s a training | stacked | ratio (rounds) | loss differs by |",
        "| --- | ---: | ---: | ---: | --- | ---: |",
    ]
    for r in records:
        single, stacked = (
            median(r[f"{kind}_seconds"]) / r["trainings"] for kind in ("single", "stacked")
        )
        ratios = ", ".join(f"{ratio:.1f}" for ratio in r["ratios"])
        cells = (r["optimizer"], r["batch_size"], f"{single:.2f}", f"{stacked:.3f}")
        cells += (f"**{median(r['ratios']):.1f}** ({ratios})", f"{r['largest_difference']:.0e}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    totals = [sum(sum(r[f"{kind}_seconds"]) for r in records) for kind in ("single", "stacked")]
    return "\n".join([*lines, "", f"All together: {totals[0] / totals[1]:.1f} times.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "stacked")
    options = parser.parse_args()
    dataset = load(DataSection("digits8x8", train_images=1442, test_images=355))
    records = [
        compare(dataset, optimizer, batch_size, options.rounds)
        for batch_size in (16, 128)
        for optimizer in PROTOCOLS
    ]
    written = {"machine": describe(), "records": records}
    options.output.with_suffix(".json").write_text(json.dumps(written, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(table(records))
    print(table(records))


if __name__ == "__main__":
    main()
