"""The settings that the constants of :mod:`lrrt.core.edge` were chosen on.

``python -m ground_truth.development`` trains and range-tests 22 small networks (ten minutes of one
core or more) and writes ``results/development-*.parquet``. They are none of the oracle's settings,
which are what the rule is judged by (``docs/which_rule.md``). All trainings of a setting are one
stacked network: slice i has its own weights, batches and learning rates.
"""

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from ground_truth.range_tests import RESULTS
from lrrt.files import write_whole

STEPS = 300
DRAWS = {100: 10, 200: 4}  # range tests by their steps
FIRST_DRAW = 100
WIDTH = 64
#: Data, network, optimiser, batch size.
SETTINGS = [
    *(("digits", net, "sgd", 32) for net in ("mlp3", "mlp6", "mlp3tanh", "mlp3ln", "cnn", "cnnbn")),
    *(("digits", net, "adam", 32) for net in ("mlp3bn", "cnn", "cnnbn")),
    ("digits", "mlp1", "sgd", 64),
    ("digits", "mlp1", "plain", 64),
    ("digits", "mlp3", "adamw", 128),
    ("digits", "mlp3bn", "sgd", 128),
    ("digits", "mlp3", "sgd", 16),
    *(("made", net, "adam", 32) for net in ("mlp3", "mlp3ln")),
    *(("made", net, "sgd", 32) for net in ("mlp3bn", "mlp1")),
    ("made", "mlp3", "plain", 32),
    ("made", "mlp1", "adam", 128),
    ("made", "mlp3bn", "adamw", 64),
    ("made", "mlp6", "adamw", 32),
]
LOWEST = {"sgd": -3.0, "plain": -2.5, "adam": -4.5, "adamw": -4.5}  # log10 of the grid's first rate


def data(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Inputs and labels to train on, those to test on, and how many classes."""
    from sklearn.datasets import load_digits, make_classification

    if name == "digits":
        x, y = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(x))
        x, y, split = (x[order] / 16 - 0.3), y[order], 1200
    else:
        made = dict(n_informative=15, n_redundant=5, n_classes=6, n_clusters_per_class=2)
        x, y = make_classification(4000, 30, **made, flip_y=0.02, class_sep=1.2, random_state=1)
        x, split = (x - x.mean(0)) / x.std(0), 2500
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    return x[:split], y[:split], x[split:], y[split:], int(y.max()) + 1


def network(name: str, inputs: int, classes: int) -> list[nn.Module]:
    """``mlp<depth>`` followed by ``bn``, ``ln`` or ``tanh``; ``cnn`` on 8x8 images, ``cnnbn``."""
    if name.startswith("cnn"):
        norms = [[nn.BatchNorm2d(16)], [nn.BatchNorm2d(32)]] if name == "cnnbn" else [[], []]
        first = [nn.Conv2d(1, 16, 3, padding=1), *norms[0], nn.ReLU(), nn.MaxPool2d(2)]
        second = [nn.Conv2d(16, 32, 3, padding=1), *norms[1], nn.ReLU(), nn.MaxPool2d(2)]
        head = [nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes)]
        return [nn.Unflatten(1, (1, 8, 8)), *first, *second, *head]
    depth, kind = int(name[3]), name[4:]
    width = 48 if depth == 6 else WIDTH
    layers = []
    for i in range(depth):
        layers.append(nn.Linear(width if i else inputs, width))
        layers += {"bn": [nn.BatchNorm1d(width)], "ln": [nn.LayerNorm(width)]}.get(kind, [])
        layers.append(nn.Tanh() if kind == "tanh" else nn.ReLU())
    return [*layers, nn.Linear(width, classes)]


class Stack:
    """Many networks of one kind, of the weights that the seeds draw."""

    def __init__(self, name: str, inputs: int, classes: int, seeds: list[int]):
        drawn = {}
        for seed in set(seeds):
            torch.manual_seed(seed)
            drawn[seed] = network(name, inputs, classes)
        self.layers, self.size = drawn[seeds[0]], len(seeds)
        self.arrays = [
            [
                torch.stack([list(drawn[s][i].parameters())[k].detach() for s in seeds])
                .clone()
                .requires_grad_()
                for k in range(len(list(layer.parameters())))
            ]
            for i, layer in enumerate(self.layers)
        ]
        self.parameters = [array for arrays in self.arrays for array in arrays]
        self.running = {}

    def __call__(self, x: torch.Tensor, training: bool = True) -> torch.Tensor:
        """Logits (size, batch, classes) of inputs (size, batch, features)."""
        batch = x.shape[1]
        for i, (layer, arrays) in enumerate(zip(self.layers, self.arrays, strict=True)):
            match type(layer).__name__:
                case "Linear":
                    x = torch.baddbmm(arrays[1][:, None], x, arrays[0].transpose(1, 2))
                case "Conv2d":  # a group of channels for each network
                    kernel, bias = arrays[0].flatten(0, 1), arrays[1].flatten()
                    x = functional.conv2d(x, kernel, bias, padding=1, groups=self.size)
                case "BatchNorm1d":
                    x = self._normed(x, i, (1,), training) * arrays[0][:, None] + arrays[1][:, None]
                case "BatchNorm2d":
                    scale, shift = (a.flatten()[None, :, None, None] for a in arrays)
                    x = self._normed(x, i, (0, 2, 3), training) * scale + shift
                case "LayerNorm":
                    x = functional.layer_norm(x, x.shape[-1:])
                    x = x * arrays[0][:, None] + arrays[1][:, None]
                case "Unflatten":
                    x = x.transpose(0, 1).reshape(batch, self.size, 8, 8)
                case "Flatten":
                    x = x.reshape(batch, self.size, -1).transpose(0, 1)
                case _:
                    x = layer(x)
        return x

    def _normed(
        self, x: torch.Tensor, layer: int, dims: tuple[int, ...], training: bool
    ) -> torch.Tensor:
        if training:
            mean, variance = x.mean(dims, keepdim=True), x.var(dims, unbiased=False, keepdim=True)
            with torch.no_grad():
                old = self.running.get(layer, (torch.zeros_like(mean), torch.ones_like(variance)))
                self.running[layer] = (0.9 * old[0] + 0.1 * mean, 0.9 * old[1] + 0.1 * variance)
        else:
            mean, variance = self.running[layer]
        return (x - mean) / (variance + 1e-5).sqrt()


def train(
    setting: tuple[str, str, str, int], seeds: list[int], lrs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses (steps, size), and accuracy and log-loss on the test data, (size,).

    ``lrs``: (steps, size). What diverges scores as a guess.
    """
    name, net, optimizer, batch = setting
    x, y, test_x, test_y, classes = data(name)
    stack = Stack(net, x.shape[1], classes, seeds)
    orders = {seed: _order(len(x), batch, seed, len(lrs)) for seed in set(seeds)}
    losses, rates = np.full(lrs.shape, np.nan), torch.tensor(lrs, dtype=torch.float32)
    means = [torch.zeros_like(p) for p in stack.parameters]
    squares = [torch.zeros_like(p) for p in stack.parameters]
    for t in range(len(lrs)):
        rows = torch.from_numpy(np.stack([orders[seed][t] for seed in seeds]))
        loss = _log_loss(stack(x[rows]), y[rows])
        losses[t] = loss.detach().numpy()
        gradients = torch.autograd.grad(loss.sum(), stack.parameters)
        with torch.no_grad():
            for p, g, m, v in zip(stack.parameters, gradients, means, squares, strict=True):
                lr = rates[t].view(-1, *[1] * (p.dim() - 1))
                if optimizer == "plain":
                    p -= lr * g
                elif optimizer == "sgd":
                    p -= lr * m.mul_(0.9).add_(g)
                else:
                    if optimizer == "adamw":
                        p.mul_(1 - 0.01 * lr)
                    m.mul_(0.9).add_(g, alpha=0.1)
                    v.mul_(0.999).addcmul_(g, g, value=0.001)
                    scale = (v / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8
                    p -= lr * m / (1 - 0.9 ** (t + 1)) / scale
    with torch.no_grad():
        logits = stack(test_x[None].expand(len(seeds), -1, -1), training=False)
        accuracy = (logits.argmax(2) == test_y).float().mean(1).numpy()
        log_loss = _log_loss(logits, test_y[None].expand(len(seeds), -1)).numpy()
    lost = ~np.isfinite(losses).all(axis=0) | ~np.isfinite(log_loss)
    guess = np.log(classes)
    accuracy = np.where(lost, 1 / classes, accuracy)
    return losses, accuracy, np.minimum(np.where(lost, guess, log_loss), guess)


def _log_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return each.view(len(logits), -1).mean(1)


def _order(count: int, batch: int, seed: int, steps: int) -> list[np.ndarray]:
    random, found = np.random.default_rng(seed + 1000), []
    while len(found) < steps:
        order = random.permutation(count)
        found += [order[i : i + batch] for i in range(0, count - batch + 1, batch)]
    return found[:steps]


def schedule(lr: float, kind: str) -> np.ndarray:
    """Constant, or one cycle: up from lr/25 over three tenths, down to lr/10,000, by cosines."""
    t = np.arange(STEPS)
    if kind == "constant":
        return np.full(STEPS, lr)
    up = int(0.3 * STEPS)
    rise = lr / 25 + (lr - lr / 25) * 0.5 * (1 - np.cos(np.pi * t / up))
    fall = lr * 1e-4 + (lr - lr * 1e-4) * 0.5 * (1 + np.cos(np.pi * (t - up) / (STEPS - up)))
    return np.where(t < up, rise, fall)


def grid(setting: tuple[str, str, str, int]) -> pd.DataFrame:
    """Trainings: half decades over four with one seed, then quarters near the best with three."""
    kinds, low = ("constant", "one_cycle"), LOWEST[setting[2]]
    coarse = low + np.arange(0, 4.01, 0.5)
    found = _trained(setting, [(0, x, kind) for x in coarse for kind in kinds])
    jobs = []
    for kind in kinds:
        rows = found[found["schedule"] == kind].sort_values(["accuracy", "log_loss"])
        top = rows[rows["accuracy"] == rows["accuracy"].max()].iloc[0]["lr"]
        for seed in range(3):
            for x in np.log10(top) + np.arange(-3, 4) / 4:
                if seed or np.abs(coarse - x).min() > 1e-6:
                    jobs.append((seed, x, kind))
    return pd.concat([found, _trained(setting, jobs)], ignore_index=True)


def _trained(setting: tuple, jobs: list[tuple[int, float, str]]) -> pd.DataFrame:
    lrs = np.stack([schedule(10**x, kind) for _, x, kind in jobs], axis=1)
    _, accuracy, log_loss = train(setting, [seed for seed, _, _ in jobs], lrs)
    table = pd.DataFrame(jobs, columns=["seed", "lr", "schedule"])
    classes = 10 if setting[0] == "digits" else 6
    return table.assign(
        lr=10 ** table["lr"],
        accuracy=accuracy,
        log_loss=log_loss,
        guess=1 / classes,
        untrained=np.log(classes),
    )


def range_tests(setting: tuple[str, str, str, int]) -> pd.DataFrame:
    parts = []
    for steps, draws in DRAWS.items():
        lr = np.geomspace(1e-7, 10, steps)
        seeds = [FIRST_DRAW + draw for draw in range(draws)]
        losses, _, _ = train(setting, seeds, np.repeat(lr[:, None], draws, axis=1))
        for draw in range(draws):
            columns = {"ramp_steps": steps, "draw": draw, "step": range(steps), "lr": lr}
            parts.append(pd.DataFrame(columns | {"loss": losses[:, draw]}))
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    torch.set_num_threads(1)
    trainings, curves = [], []
    for setting in SETTINGS:
        optimizer = setting[2].replace("plain", "sgd")
        named = {"setting": "-".join(map(str, setting)), "optimizer": optimizer}
        trainings.append(grid(setting).assign(**named))
        curves.append(range_tests(setting).assign(**named))
        print(named["setting"], flush=True)
    for name, parts in (("trainings", trainings), ("curves", curves)):
        table = pd.concat(parts, ignore_index=True)
        write_whole(RESULTS / f"development-{name}.parquet", table.to_parquet(index=False))


if __name__ == "__main__":
    main()
