"""scikit-learn's 1,797 handwritten digits as they are: 8x8 pixels, one channel.

A fifth of each class is for testing (:func:`lrrt.datasets.digits.split`), the order of both parts
is seeded, and fewer images of the same seed are the beginning of more.
"""

import hashlib

import numpy as np

from lrrt.config import DataSection
from lrrt.datasets import Dataset, pixel_statistics
from lrrt.datasets.digits import split
from lrrt.errors import InputError

MOST = {"train_images": 1442, "test_images": 355}


def validate(config: DataSection) -> None:
    """Raise :class:`InputError` for a ``config.path``, and for more images than there are."""
    if config.path is not None:
        raise InputError("data.path", config.path, "null; the digits are scikit-learn's own")
    for name, most in MOST.items():
        if getattr(config, name) > most:
            words = f"at most {most} with data.name = digits8x8"
            raise InputError(f"data.{name}", getattr(config, name), words)


def load(config: DataSection) -> Dataset:
    """Raises as :func:`validate` does."""
    from sklearn.datasets import load_digits

    validate(config)
    source = load_digits()
    # Ink from 0 to 16, as pixels from 0 to 240.
    images = (source.images.astype(np.uint8) * 15)[..., None]
    labels = source.target.astype(np.int64)
    random = np.random.default_rng([config.seed, 0])
    sides = [random.permutation(side) for side in split(labels, random)]
    train, test = sides[0][: config.train_images], sides[1][: config.test_images]
    return Dataset(
        images[train],
        labels[train],
        images[test],
        labels[test],
        *pixel_statistics(images[train]),
        tuple(str(digit) for digit in range(10)),
        f"scikit-learn's digits, 8x8 pixels: {len(train):,} training and {len(test):,} test images",
        {"sklearn.datasets.load_digits": hashlib.sha256(images.tobytes()).hexdigest()},
    )
