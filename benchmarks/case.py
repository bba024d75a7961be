"""The test that all contestants run: same weights, same batches, same number of steps."""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lrrt.core import batches, ramp, weights
from lrrt.core.network import Node
from lrrt.core.networks import resnet
from lrrt.core.protocol import Protocol, Ramp
from lrrt.datasets import Dataset
from lrrt.runs.spec import RunSpec

START, END = 1e-4, 1e-2  # learning rates that move the loss and keep it stable
# What each framework does by itself, with SGD and momentum and nothing else.
PROTOCOLS = {
    "torch": Protocol(dense_bias="zero"),
    "keras": Protocol(
        dense_bias="zero",
        padding="same",
        batch_norm_momentum=0.99,
        batch_norm_epsilon=1e-3,
        batch_norm_unbiased=False,
        momentum_form="lr_inside",
        normalise=False,
        augmentation="shift",
    ),
}


@dataclass(frozen=True)
class Case:
    depth: int
    batch: int
    steps: int
    framework: str  # whose protocol: torch or keras

    @property
    def protocol(self) -> Protocol:
        steps = Ramp(start=START, end=END, steps=self.steps)
        return dataclasses.replace(PROTOCOLS[self.framework], ramp=steps)

    @property
    def lrs(self) -> np.ndarray:
        return ramp.training_lrs(self.protocol.ramp, self.steps)

    @property
    def nodes(self) -> list[Node]:
        return resnet.nodes(resnet.Model(depth=self.depth), shape=(32, 32, 3), classes=10)

    def spec(self, data_digest: str) -> RunSpec:
        return RunSpec(
            "range_test",
            self.framework,
            self.protocol,
            resnet.Model(depth=self.depth),
            data_digest,
            0,
            0,
            self.batch,
            self.steps,
        )

    def dataset(self, test_images: int = 10) -> Dataset:
        """Random pixels: what an image shows does not change what a step costs."""
        random = np.random.default_rng(0)
        count = self.steps * self.batch
        images = random.integers(0, 256, (count + test_images, 32, 32, 3), dtype=np.uint8)
        labels = np.arange(len(images)) % 10
        splits = (images[:count], labels[:count], images[count:], labels[count:])
        return Dataset(*splits, np.full(3, 0.5), np.full(3, 0.25), tuple("0123456789"), "random")

    def weights(self) -> dict[str, np.ndarray]:
        return weights.draw(self.nodes, self.protocol.weights, self.protocol.dense_bias, 0)

    def batches(self) -> tuple[np.ndarray, np.ndarray]:
        """All batches, augmented and scaled, one after the other: (steps x batch, 32, 32, 3) and
        labels. The peers get them ready-made; ours makes them as it goes."""
        data, protocol = self.dataset(), self.protocol
        plan = batches.BatchPlan(
            len(data.train_images), self.batch, 0, protocol.augmentation, protocol.flip
        )
        images, labels = [], []
        for step in range(self.steps):
            draws = plan.draws(step)
            images.append(batches.apply(data.train_images, draws, protocol, data.mean, data.std))
            labels.append(data.train_labels[draws.indices])
        return np.concatenate(images), np.concatenate(labels)


@dataclass
class Notes:
    """What a contestant notes once a step, always at the same point of it, with the loss."""

    losses: list[float] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)  # seconds, of a clock
    processor: list[float] = field(default_factory=list)  # CPU seconds, all threads

    def note(self, loss, lr: float) -> None:
        self.wall.append(time.perf_counter())
        self.processor.append(time.process_time())
        self.losses.append(loss)
        self.lrs.append(float(lr))

    def write(self, path: Path, **more) -> None:
        values = dataclasses.asdict(dataclasses.replace(self, losses=[]))
        values["losses"] = [float(loss) for loss in self.losses]
        path.write_text(json.dumps(values | more))
