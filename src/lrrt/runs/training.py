"""What one training at a time and many at once have in common."""

import platform
from types import ModuleType

import numpy as np

from lrrt import __version__
from lrrt.core import batches
from lrrt.core.curve import EPOCH_MEASURES
from lrrt.datasets import Dataset
from lrrt.errors import InputError
from lrrt.runs.spec import RunSpec

TRAINING_COLUMNS = ("epoch", "lr", *EPOCH_MEASURES)
ImagesAndLabels = tuple[np.ndarray, np.ndarray]


class Batches:
    """Training batches by step, and evaluation images, as ``spec`` wants them."""

    def __init__(self, spec: RunSpec, dataset: Dataset):
        self.protocol, self.dataset = spec.protocol, dataset
        if dataset.train_images.ndim == 2 and (
            self.protocol.augmentation != "none" or self.protocol.flip
        ):
            words = "none, and no flip; the data are tokens"
            raise InputError("protocol.augmentation", self.protocol.augmentation, words)
        count, size = dataset.train_images.shape[:2]
        self.plan = batches.BatchPlan(
            count,
            spec.batch_size,
            spec.order_seed,
            spec.protocol.augmentation,
            spec.protocol.flip,
            size=size,
            augmentation_seed=spec.augmentation_seed,
        )

    def train(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (batch, height, width, channels) float32 and labels (batch,) of one step."""
        data, draws = self.dataset, self.plan.draws(step)
        images = batches.apply(data.train_images, draws, self.protocol, data.mean, data.std)
        return images, np.asarray(data.train_labels[draws[0]])

    def evaluation(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scaled as in training, not augmented."""
        data = self.dataset
        return batches.prepare(images, self.protocol, data.mean, data.std), np.asarray(labels)

    @property
    def evaluation_sets(self) -> tuple[ImagesAndLabels, ImagesAndLabels]:
        """Images and labels that a training is evaluated on: of the first tenth of the training
        images (200 to 2,000), and of all test images."""
        data = self.dataset
        kept = min(max(len(data.train_images) // 10, 200), 2000)
        train = self.evaluation(data.train_images[:kept], data.train_labels[:kept])
        return train, self.evaluation(data.test_images, data.test_labels)


def versions_with(backend: ModuleType) -> dict[str, str]:
    """Of the packages that a result depends on."""
    own = {"lrrt": __version__, "python": platform.python_version(), "numpy": np.__version__}
    return own | backend.versions()


def columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: rows[:, i].copy() for i, name in enumerate(TRAINING_COLUMNS)}
