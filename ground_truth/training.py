"""One training of ``cifar10_3c3d`` at a constant rate, held against the public training losses.

``python -m ground_truth.training --data FOLDER --lr 0.0158489 --steps 1000``
"""

import argparse

import numpy as np
import pandas as pd
import torch

import lrrt
from ground_truth import problem
from ground_truth.public import PROBES
from ground_truth.range_tests import RESULTS, cifar10
from lrrt.files import write_whole


def losses(dataset, optimizer: str, lr: float, steps: int, seed: int) -> np.ndarray:
    """Loss of each step, penalty included, before its update."""
    network = problem.make_network(seed)
    stepper = problem.OPTIMISERS[optimizer](network.parameters(), lr)
    feed = problem.batches(dataset.train_images, dataset.train_labels, seed)
    found = np.full(steps, np.nan)
    for step in range(steps):
        stepper.zero_grad()
        loss = problem.batch_loss(network, next(feed))
        loss.backward()
        stepper.step()
        found[step] = loss.item()
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="CIFAR-10: a folder, as data.path takes it")
    parser.add_argument("--optimizer", default="sgd", choices=sorted(problem.OPTIMISERS))
    parser.add_argument("--lr", type=float, default=0.0158489)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    run = (given.optimizer, given.lr, given.steps, given.seed)
    found = losses(cifar10(given.data), *run)
    probes = [k for k in PROBES if k <= given.steps]
    means = [float(found[k - k // 5 : k].mean()) for k in probes]
    named = {"optimizer": given.optimizer, "lr": given.lr, "seed": given.seed}
    table = pd.DataFrame(named | {"steps": probes, "train_loss": means})
    path = RESULTS / "training.parquet"
    if path.exists():
        table = pd.concat([pd.read_parquet(path), table]).drop_duplicates(
            ["optimizer", "lr", "seed", "steps"], keep="last"
        )
    write_whole(path, table.to_parquet(index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    with lrrt.errors.one_line_errors():
        main()
