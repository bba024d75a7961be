"""Softmax regression in NumPy, in place of a framework: it starts at once and steps in no time.

Of the given weights only the dense layer's are used; the features are an image's coarse pixels.
The environment says what goes wrong: ``LINEAR_SLEEP`` (seconds each step takes), ``LINEAR_LOG`` (a
file that gets the process id for each network built), ``LINEAR_DEATHS`` (so many networks, by that
log, kill their process instead).
"""

import os
import signal
import time
from pathlib import Path

import numpy as np

from lrrt.backends import Step


class Network:
    def __init__(self, weights: dict[str, np.ndarray]):
        (self.name,) = (name for name, array in weights.items() if array.ndim == 2)
        self.others = {name: array for name, array in weights.items() if name != self.name}
        self.weights = weights[self.name].astype(np.float64)
        self.pause = float(os.environ.get("LINEAR_SLEEP", 0))

    def _features(self, images: np.ndarray) -> np.ndarray:
        coarse = images.reshape(len(images), 8, 4, 8, 4, -1).mean(axis=(2, 4))
        return coarse.reshape(len(images), -1)[:, : len(self.weights)].astype(np.float64)

    def _probabilities(self, features: np.ndarray) -> np.ndarray:
        logits = features @ self.weights
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def step(self, images: np.ndarray, labels: np.ndarray, lr: float) -> Step:
        time.sleep(self.pause)
        with np.errstate(all="ignore"):
            features = self._features(images)
            probabilities = self._probabilities(features)
            rows = np.arange(len(labels))
            loss = -np.log(probabilities[rows, labels]).mean()
            probabilities[rows, labels] -= 1
            gradient = features.T @ probabilities / len(labels)
            self.weights = self.weights - lr * gradient
        return Step(float(loss), 0.0, float(np.sqrt((gradient**2).sum())))

    def evaluate(
        self, images: np.ndarray, labels: np.ndarray, statistics: str = "running"
    ) -> tuple[float, float]:
        with np.errstate(all="ignore"):
            probabilities = self._probabilities(self._features(images))
            loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
        return float(loss), float((probabilities.argmax(axis=1) == labels).mean())

    def state(self) -> dict[str, np.ndarray]:
        return {self.name: self.weights.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.weights = state[self.name].copy()

    def export(self) -> dict[str, np.ndarray]:
        return {**self.others, self.name: self.weights.astype(np.float32)}


def build(nodes, protocol, weights, *, precision, threads, device) -> Network:
    if "LINEAR_LOG" in os.environ:
        log = Path(os.environ["LINEAR_LOG"])
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if len(log.read_text().splitlines()) <= int(os.environ.get("LINEAR_DEATHS", 0)):
            os.kill(os.getpid(), signal.SIGKILL)
    return Network(weights)


def versions() -> dict[str, str]:
    return {"linear": "1"}
