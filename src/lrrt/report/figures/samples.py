"""The data set in one picture: some images of each class, drawn by the data stage."""

import io

import matplotlib
import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from lrrt.datasets import Dataset

COLUMNS = {"train": 12, "test": 4}  # images of each class
GAP, ENLARGED = 2, 2  # pixels between images; pixels a side of a pixel
DPI = 100


def mosaic(images: np.ndarray, labels: np.ndarray, classes: int, columns: int) -> np.ndarray:
    """The first ``columns`` images of each class, a row a class, on white: uint8 (y, x, channels).

    ``images``: uint8 (images, height, width, channels). ``labels``: int64 (images,). A class with
    fewer images leaves its row unfilled.
    """
    height, width, channels = images.shape[1:]
    shape = (classes, height + GAP, columns, width + GAP, channels)
    tiles = np.full(shape, 255, np.uint8)
    for label in range(classes):
        for column, index in enumerate(np.flatnonzero(labels == label)[:columns]):
            tiles[label, :height, column, :width] = images[index]
    return tiles.reshape(classes * shape[1], columns * shape[3], channels)


def draw(dataset: Dataset) -> Figure:
    """The first training and test images of each class, side by side; the title describes them.

    Of tokens the first windows of each part, a line each.
    """
    if dataset.train_images.ndim == 2:
        return _draw_tokens(dataset)
    classes = len(dataset.classes)
    parts = [
        mosaic(dataset.train_images, dataset.train_labels, classes, COLUMNS["train"]),
        mosaic(dataset.test_images, dataset.test_labels, classes, COLUMNS["test"]),
    ]
    space = np.full((parts[0].shape[0], 4 * GAP, parts[0].shape[2]), 255, np.uint8)
    picture = np.concatenate([parts[0], space, parts[1]], axis=1)
    height, width = (ENLARGED * side for side in picture.shape[:2])
    left, top, rest = 90, 62, 8
    size = (left + width + rest, top + height + rest)
    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI)
    ax = figure.add_axes((left / size[0], rest / size[1], width / size[0], height / size[1]))
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
    row = picture.shape[0] / classes
    ax.set_yticks([(label + 0.5) * row - GAP / 2 for label in range(classes)], dataset.classes)
    starts = (0, parts[0].shape[1] + space.shape[1])
    ax.set_xticks([start + part.shape[1] / 2 for start, part in zip(starts, parts, strict=True)])
    ax.set_xticklabels(["training", "test"])
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.spines[:].set_visible(False)
    figure.text(
        rest / size[0], 1 - 20 / size[1], dataset.description, fontsize=10, parse_math=False
    )
    return figure


def _draw_tokens(dataset: Dataset) -> Figure:
    figure = Figure(figsize=(8, 4), dpi=DPI)
    figure.text(0.02, 0.94, dataset.description, fontsize=10, parse_math=False)
    parts = {"training": dataset.train_images, "test": dataset.test_images}
    height = 0.88
    for name, windows in parts.items():
        figure.text(0.02, height, name, va="top", fontsize=10)
        for window in windows[: COLUMNS["train"] // 2]:
            line = "".join(dataset.classes[token] for token in window).replace("\n", "↵")
            font = {"family": "DejaVu Sans Mono", "fontsize": 9, "parse_math": False}
            figure.text(0.13, height, line, va="top", **font)
            height -= 0.07
    return figure


def picture(dataset: Dataset) -> bytes:
    """The figure as PNG; equal data sets give equal bytes."""
    buffer = io.BytesIO()
    with style.context("default"), matplotlib.rc_context({"font.family": "DejaVu Sans"}):
        draw(dataset).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
