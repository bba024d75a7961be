"""Handwritten digits, offline: scikit-learn's 1,797 real ones, rendered as 32x32 RGB variants.

Each image is one of the 8x8 digits turned, stretched, slanted and moved, in a bright random colour
on a dark, cloudy, noisy background. No source digit is on both sides: a fifth of those of each
class are for testing only.

Every value is an integer draw or the result of additions, multiplications and divisions, which
are rounded the same way everywhere: the same seed gives the same bytes on every machine.
"""

import hashlib

import numpy as np

from lrrt.config import DataSection
from lrrt.datasets import Dataset, pixel_statistics
from lrrt.errors import InputError

SIZE, SOURCE = 32, 8  # pixels a side, of an image and of a source digit
BLOCK = 100  # images rendered at a time; a multiple of the number of classes
TEST_SHARE = 5  # one source digit in so many is for testing

# Ranges of what is drawn, uniformly, for each image. Wider ones (colours of any kind, say) keep a
# ResNet-8 from learning anything in the 100 steps of the quick study's range tests.
HEIGHT = (21, 27)  # pixels that the 8 rows of a source digit become
ASPECT = (0.85, 1.15)  # width to height
HALF_TURN = 0.1  # tangent of half the angle: 11.4 degrees either way
SLANT = 0.1  # columns per row, either way
SHIFT = 2  # pixels either way, in x and in y
PAPER, DIGIT = (0, 80), (150, 255)  # each channel of the two colours, of 255
CLOUDS, CLOUD_CELLS = 20, 4  # amplitude, of 255, and points a side of the background's clouds
NOISE = 20  # largest noise of a pixel's channel, of 255; triangular


def validate(config: DataSection) -> None:
    """Raise :class:`InputError` if there is a ``config.path``."""
    if config.path is not None:
        raise InputError("data.path", config.path, "null; digits are made without a file")


def load(config: DataSection) -> Dataset:
    """Render ``config.train_images`` and ``config.test_images`` variants with ``config.seed``.

    Each ten images have one of each class. Fewer images of the same seed are the beginning of
    more.

    Raises
    ------
    InputError
        If there is a ``config.path``.
    """
    from sklearn.datasets import load_digits

    validate(config)
    source = load_digits()
    digits, labels = source.images.astype(np.uint8), source.target.astype(np.int64)
    sides = split(labels, np.random.default_rng([config.seed, 0]))
    train = render(digits, labels, sides[0], config.train_images, [config.seed, 1])
    test = render(digits, labels, sides[1], config.test_images, [config.seed, 2])
    used = [f"{len(side):,}" for side in sides]
    return Dataset(
        *train,
        *test,
        *pixel_statistics(train[0]),
        tuple(str(digit) for digit in range(10)),
        f"scikit-learn's digits as 32x32 RGB variants: {config.train_images:,} training images of "
        f"{used[0]} digits, {config.test_images:,} test images of {used[1]} others",
        {"sklearn.datasets.load_digits": hashlib.sha256(digits.tobytes()).hexdigest()},
    )


def split(labels: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the source digits for training and for testing, the same share of each class."""
    train, test = [], []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        cut = len(members) // TEST_SHARE
        test.append(members[:cut])
        train.append(members[cut:])
    return np.concatenate(train), np.concatenate(test)


def render(
    digits: np.ndarray, labels: np.ndarray, chosen: np.ndarray, count: int, seed: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """``count`` variants of the source digits ``chosen``.

    Parameters
    ----------
    digits : uint8 (digits, 8, 8), ink from 0 to 16
    labels : int64 (digits,)
    chosen : indices into ``digits``

    Returns
    -------
    images : uint8 (count, 32, 32, 3)
    labels : int64 (count,)
    """
    by_class = [chosen[labels[chosen] == label] for label in np.unique(labels)]
    sizes = np.array([len(members) for members in by_class])
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    image_labels = np.empty(count, np.int64)
    for start in range(0, count, BLOCK):
        random = np.random.default_rng([*seed, start])
        tens = np.tile(np.arange(len(by_class)), (BLOCK // len(by_class), 1))
        block_labels = random.permuted(tens, axis=1).ravel()
        members = random.integers(sizes[block_labels])
        pairs = zip(block_labels, members, strict=True)
        sources = [by_class[label][member] for label, member in pairs]
        block = _render_block(digits[sources], random)
        stop = min(start + BLOCK, count)
        images[start:stop], image_labels[start:stop] = (
            block[: stop - start],
            block_labels[: stop - start],
        )
    return images, image_labels


def _render_block(sources: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One variant of each of ``sources``, uint8 (images, 8, 8): uint8 (images, 32, 32, 3)."""
    count = len(sources)
    ink = _sample(sources.astype(np.float32) / 16, *_positions(count, random))
    # Steeper edges make strokes of what are blurred blocks.
    ink = np.clip(2 * ink - np.float32(0.4), 0, 1)[..., None]
    paper, digit = (
        random.integers(*span, (count, 1, 1, 3), endpoint=True).astype(np.float32)
        for span in (PAPER, DIGIT)
    )
    cells = (count, CLOUD_CELLS, CLOUD_CELLS, 3)
    image = _enlarge(random.integers(-CLOUDS, CLOUDS, cells, endpoint=True).astype(np.float32))
    image += paper
    image += ink * (digit - image)
    noise = random.integers(0, 256, image.shape, np.uint8)
    image += np.float32(NOISE / 15) * ((noise & 15) + (noise >> 4))  # two draws of 0 to 15
    image -= NOISE
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _positions(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of ``count`` images lies in its source digit: rows and columns, in source
    pixels, each (count, 32, 32)."""

    def draw(low: float, high: float) -> np.ndarray:
        return random.uniform(low, high, (count, 1, 1)).astype(np.float32)

    height, aspect = draw(*HEIGHT), draw(*ASPECT)
    tangent, slant = draw(-HALF_TURN, HALF_TURN), draw(-SLANT, SLANT)
    # Not np.cos: it differs in the last bit from one processor to another.
    cosine = (1 - tangent * tangent) / (1 + tangent * tangent)
    sine = 2 * tangent / (1 + tangent * tangent)
    centre = (SIZE - 1) / 2
    y = np.arange(SIZE, dtype=np.float32)[:, None] - centre - draw(-SHIFT, SHIFT)
    x = np.arange(SIZE, dtype=np.float32)[None, :] - centre - draw(-SHIFT, SHIFT)
    rows = (cosine * y - sine * x) * (SOURCE / height)
    columns = (sine * y + cosine * x) * (SOURCE / height) / aspect + slant * rows
    return rows + (SOURCE - 1) / 2, columns + (SOURCE - 1) / 2


def _sample(sources: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear interpolation of each source at its positions; nothing beyond the edges."""
    padded = np.pad(sources, ((0, 0), (2, 2), (2, 2)))
    rows, columns = (np.clip(p + 2, 0.5, SOURCE + 2.5) for p in (rows, columns))
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    image = np.arange(len(sources))[:, None, None]

    def row(index: np.ndarray) -> np.ndarray:
        first, second = padded[image, index, left], padded[image, index, left + 1]
        return first + right * (second - first)

    upper, lower = row(top), row(top + 1)
    return upper + down * (lower - upper)


def _enlarge(cells: np.ndarray) -> np.ndarray:
    """Bilinear enlargement of (images, n, n, channels) to (images, 32, 32, channels)."""
    last = cells.shape[1] - 1
    place = np.arange(SIZE) * (last / (SIZE - 1))
    first = np.minimum(place.astype(int), last - 1)
    share = (place - first).astype(np.float32)
    tall = cells[:, first] + share[:, None, None] * (cells[:, first + 1] - cells[:, first])
    left, right = tall[:, :, first], tall[:, :, first + 1]
    return left + share[:, None] * (right - left)
