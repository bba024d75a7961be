"""DeepOBS's ``quadratic_deep``: its stability bound is known, so a curve's edge can be checked.

0.5 (w - x)' H (w - x), x normal of deviation 0.6; plain gradient descent is stable below 2 / the
largest eigenvalue of H. In the eigenbasis of H, where the start is a random direction of norm 10
(there: all ones, under a random rotation; the same in distribution).
"""

import numpy as np
import pandas as pd
import torch
from torch import nn

import lrrt

DIMENSIONS, NOISE, SAMPLES, BATCH_SIZE = 100, 0.6, 1000, 128
START, END, STEPS = 1e-7, 10.0, 100


def eigenvalues() -> np.ndarray:
    """90 from (0, 1) and 10 from (30, 60), as DeepOBS draws them, (100,)."""
    random = np.random.RandomState(42)
    return np.concatenate([random.uniform(0.0, 1.0, 90), random.uniform(30.0, 60.0, 10)])


def stability_bound() -> float:
    return 2 / eigenvalues().max()


class Quadratic(nn.Module):
    def __init__(self, seed: int):
        super().__init__()
        direction = np.random.default_rng(seed).standard_normal(DIMENSIONS)
        start = np.sqrt(DIMENSIONS) * direction / np.linalg.norm(direction)
        self.position = nn.Parameter(torch.tensor(start))
        self.register_buffer("curvature", torch.tensor(eigenvalues()))


def batch_loss(model: Quadratic, batch: tuple[torch.Tensor]) -> torch.Tensor:
    (points,) = batch
    return 0.5 * ((model.position - points).square() @ model.curvature).mean()


def batches(seed: int):
    random = np.random.default_rng([seed, 1])
    points = random.normal(0, NOISE, (SAMPLES, DIMENSIONS))
    while True:
        yield (torch.tensor(points[random.permutation(SAMPLES)[:BATCH_SIZE]]),)


def curve(seed: int, steps: int = STEPS) -> pd.DataFrame:
    """One range test with plain SGD: seed, step, lr, loss."""
    model = Quadratic(seed)
    found = lrrt.range_test(
        model,
        data=batches(seed),
        optimizer=torch.optim.SGD(model.parameters(), lr=1e-3),
        batch_loss=batch_loss,
        start=START,
        end=END,
        steps=steps,
        stop=None,
        progress=False,
    )
    columns = {"seed": seed, "step": np.arange(steps)}
    lr, loss = found.recorded()
    return pd.DataFrame(columns | {"lr": lr, "loss": loss})
