"""Our range tests of ``cifar10_3c3d``: each is kept as it ends, and what is kept is not run again.

``python -m ground_truth.range_tests --data FOLDER`` (CIFAR-10, as ``data.path`` takes it)
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import lrrt
from ground_truth import problem
from lrrt.config import DataSection
from lrrt.datasets import Dataset, load
from lrrt.files import write_whole

RESULTS = Path(__file__).parent / "results"
START, END, SEEDS = 1e-7, 10.0, 20


def cifar10(folder: str) -> Dataset:
    """The training images; another edition than a known one is taken, too."""
    return load(
        DataSection("cifar10", folder, verify=False, train_images=50_000, test_images=10_000)
    )


def range_test(dataset: Dataset, optimizer: str, seed: int, steps: int) -> pd.DataFrame:
    """One test, one row a step: optimizer, steps, seed, step, lr, loss (penalty included)."""
    network = problem.make_network(seed)
    curve = lrrt.range_test(
        network,
        data=problem.batches(dataset.train_images, dataset.train_labels, seed),
        optimizer=problem.OPTIMISERS[optimizer](network.parameters(), 1e-3),
        batch_loss=problem.batch_loss,
        start=START,
        end=END,
        steps=steps,
        stop=None,
        progress=False,
    )
    named = {"optimizer": optimizer, "steps": steps, "seed": seed, "step": np.arange(len(curve))}
    return pd.DataFrame(named | {"lr": curve.lr, "loss": curve.loss})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="CIFAR-10: a folder, as data.path takes it")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    dataset = cifar10(given.data)
    path = RESULTS / f"curves-{given.steps}.parquet"
    table = pd.read_parquet(path) if path.exists() else pd.DataFrame()
    for seed in range(given.seeds):
        for optimizer in problem.OPTIMISERS:
            if len(table) and ((table["optimizer"] == optimizer) & (table["seed"] == seed)).any():
                continue
            table = pd.concat([table, range_test(dataset, optimizer, seed, given.steps)])
            write_whole(path, table.to_parquet(index=False))
            print(f"{optimizer}, seed {seed}: {given.steps} steps", flush=True)


if __name__ == "__main__":
    with lrrt.errors.one_line_errors():
        main()
