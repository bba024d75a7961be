"""A training with all that has a state, its model and data: what tests of live models share."""

import copy
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
FEATURES, CLASSES, SAMPLES = 6, 3, 96
LOSS = nn.CrossEntropyLoss()


def tensors(samples=SAMPLES):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, FEATURES, generator=generator)
    return x, (x[:, :CLASSES] + 0.1 * x[:, CLASSES:]).argmax(1)


def network():
    return nn.Sequential(
        nn.Linear(FEATURES, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(12, CLASSES),
    )


def loader(**options):
    return DataLoader(TensorDataset(*tensors()), 16, **({"shuffle": True} | options))


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "capturable": lambda p: torch.optim.NAdam(p, lr=0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
}


class Training:
    """A training with all that has a state: schedule, scaler, shuffling, dropout, augmentation."""

    def __init__(self, optimizer, *, precision=None, groups=False, **loading):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        self.model = network()
        parameters = list(self.model.parameters())
        if groups:
            parameters = [
                {"params": parameters[:2], "lr": 0.01},
                {"params": parameters[2:], "lr": 0.1},
            ]
        self.optimizer = OPTIMIZERS[optimizer](parameters)
        schedules = torch.optim.lr_scheduler
        if optimizer == "lbfgs":
            self.schedule = schedules.StepLR(self.optimizer, 5)
        else:
            self.schedule = schedules.OneCycleLR(self.optimizer, 0.2, total_steps=80)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
        self.scaled = precision is not None
        self.loader = loader(**loading)

    def epoch(self):
        losses = []
        for x, y in self.loader:
            x = x + 0.01 * random.random() + 0.01 * np.random.rand() + 0.01 * torch.randn(x.shape)

            def closure(x=x, y=y):
                self.optimizer.zero_grad()
                loss = LOSS(self.model(x), y)
                (self.scaler.scale(loss) if self.scaled else loss).backward()
                losses.append(loss.item())
                return loss

            if self.scaled:
                closure()
                self.scaler.step(self.optimizer)
                self.scaler.update()
            else:
                self.optimizer.step(closure)
            self.schedule.step()
        return losses

    def state(self):
        optimizer = self.optimizer.state_dict()
        return {
            "model": {k: v.clone() for k, v in self.model.state_dict().items()},
            "optimizer": copy.deepcopy(optimizer),
            "schedule": copy.deepcopy(self.schedule.state_dict()),
            "scaler": self.scaler.state_dict(),
            "grad": [None if p.grad is None else p.grad.clone() for p in self.model.parameters()],
            "modes": [m.training for m in self.model.modules()],
            "random": [random.getstate(), np.random.get_state()[1], torch.get_rng_state()],
        }


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return a == b


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
