"""DeepOBS's ``cifar10_3c3d`` in PyTorch: network, penalty, augmentation, optimisers.

After DeepOBS (Schneider, Balles and Hennig, ICLR 2019; MIT licence). It differs from the original
in the shuffling (here of all images, there through a buffer of 20,000), and in the random numbers.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH_SIZE = 128
PENALTY = 0.002 / 2  # of the sum of squares of all kernels
PADDING = 2  # pixels, before the random crop
SATURATION, CONTRAST = (0.5, 1.5), (0.2, 1.8)
#: By the names of the public table.
OPTIMISERS = {
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),
    "heavy_ball": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.99),
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr),
}


def make_network(seed: int) -> nn.Sequential:
    """Three convolutions, three dense layers; Glorot uniform kernels, biases 0."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)  # TensorFlow's "same": pads below and right

    network = nn.Sequential(
        *(nn.Conv2d(3, 64, 5), nn.ReLU(), pool()),
        *(nn.Conv2d(64, 96, 3), nn.ReLU(), pool()),
        *(nn.Conv2d(96, 128, 3, padding=1), nn.ReLU(), pool()),
        *(nn.Flatten(), nn.Linear(128 * 3 * 3, 512), nn.ReLU()),
        *(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)),
    )
    random = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            nn.init.xavier_uniform_(parameter, generator=random)
        else:
            nn.init.zeros_(parameter)
    return network.to(memory_format=torch.channels_last)


def batch_loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy plus the penalty, as DeepOBS records it."""
    images, labels = batch
    kernels = [p for p in network.parameters() if p.ndim > 1]
    penalty = PENALTY * sum(kernel.square().sum() for kernel in kernels)
    return F.cross_entropy(network(images), labels) + penalty


def augment(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Crop, flip, saturation, contrast, then every image to mean 0 and deviation 1.

    ``images``: uint8 (batch, side, side, 3). Returns float32 of the same shape. The original's
    brightness jitter, of a quarter of a grey level, is left out.
    """
    count, side = images.shape[:2]
    padded = np.pad(images, [(0, 0), (PADDING,) * 2, (PADDING,) * 2, (0, 0)])
    corners = random.integers(0, 2 * PADDING + 1, (count, 2))
    rows, columns = (corners[:, axis, None] + np.arange(side) for axis in (0, 1))
    flips = random.random(count) < 0.5
    columns[flips] = columns[flips, ::-1]
    pixels = padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    pixels = pixels.astype(np.float32)

    # Saturation in HSV, where it is 1 at most: value stays, the other channels move away from it.
    factor = random.uniform(*SATURATION, (count, 1, 1, 1)).astype(np.float32)
    value = pixels.max(-1, keepdims=True)
    saturation = (value - pixels.min(-1, keepdims=True)) / np.maximum(value, 1e-12)
    pixels = value - (value - pixels) * np.minimum(factor, 1 / np.maximum(saturation, 1e-12))
    factor = random.uniform(*CONTRAST, (count, 1, 1, 1)).astype(np.float32)
    mean = pixels.mean((1, 2), keepdims=True)
    return standardise((pixels - mean) * factor + mean)


def standardise(images: np.ndarray) -> np.ndarray:
    """Every image to mean 0 and deviation 1 (1/sqrt(values) where that is larger), float32."""
    images = images.astype(np.float32)
    axes = (1, 2, 3)
    least = 1 / np.sqrt(np.prod(images.shape[1:]))
    deviation = np.maximum(images.std(axes, keepdims=True), least)
    return ((images - images.mean(axes, keepdims=True)) / deviation).astype(np.float32)


def batches(images: np.ndarray, labels: np.ndarray, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole batches of augmented images, epoch after epoch, without end."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(len(images))
        for start in range(0, len(images) - BATCH_SIZE + 1, BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            pixels = torch.from_numpy(augment(images[chosen], random)).permute(0, 3, 1, 2)
            yield pixels, torch.from_numpy(labels[chosen])
