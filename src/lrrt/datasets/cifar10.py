"""CIFAR-10 (Krizhevsky, 2009): the authors' binary archive, or the Parquet edition.

``data.path`` is a folder with one of these, or such a file; they are tried in this order:

* ``train-00000-of-00001.parquet`` and ``test-00000-of-00001.parquet`` (also in ``plain_text/``);
* ``cifar-10-binary.tar.gz``;
* ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin`` (also in
  ``cifar-10-batches-bin/``), the extracted archive.

Without a path the archive is downloaded. No pickle is ever loaded.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from lrrt.config import DataSection
from lrrt.datasets import Dataset, _archive, _parquet, pixel_statistics
from lrrt.errors import InputError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGES = {"train": 50_000, "test": 10_000}
SHAPE = (32, 32, 3)
PARQUET = {split: f"{split}-00000-of-00001.parquet" for split in IMAGES}
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
LARGEST_FILE = 400_000_000  # bytes; no edition comes near it
DOWNLOADS = Path("data/downloads")

# SHA-256 of the files of each known edition, and what it is.
EDITIONS = {
    (ARCHIVE_SHA256,): "CIFAR-10 (the authors' binary archive)",
    (
        "8428b53b88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
        "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
    ): "CIFAR-10 (Parquet edition uoft-cs/cifar10, PNG images)",
    (
        "d6f21e98f8df3fc40c1aaa7284c38577e182b6f8c13a8fef17c6fcdd810e4e6c",
        "cb167da22f010626f6e651a986dd037d9982c6cf54eda188fba1b5266955a668",
    ): "CIFAR-10 (a Parquet copy with JPEG images, 4:2:0, quality about 75, rows shuffled)",
}

Split = tuple[np.ndarray, np.ndarray]  # uint8 images (n, 32, 32, 3) and int64 labels (n,)


def validate(config: DataSection) -> None:
    """Raise :class:`InputError` if more images are asked for than there are."""
    for split, most in IMAGES.items():
        count = getattr(config, f"{split}_images")
        if count > most:
            raise InputError(f"data.{split}_images", count, f"at most {most}, all of them")


def load(config: DataSection) -> Dataset:
    """Read CIFAR-10 and keep ``config.train_images`` and ``config.test_images`` of it.

    All images keep the order of the edition; fewer are chosen by :func:`select`.

    Raises
    ------
    InputError
        If more images are asked for than there are; if a file is missing, cut or (with
        ``config.verify``) of no known edition; if the content is not 50,000 and 10,000 images of
        32x32 RGB, equally many of each of ten classes; if the download fails.
    """
    validate(config)
    files = _locate(Path(config.path)) if config.path is not None else [_download_archive()]
    contents = [_read_file(file) for file in files]
    sums = tuple(hashlib.sha256(content).hexdigest() for content in contents)
    if config.verify and sums not in EDITIONS:
        known = {part for edition in EDITIONS for part in edition}
        strangers = [f for f, part in zip(files, sums, strict=True) if part not in known]
        raise InputError(
            "data.path",
            str((strangers or files)[0]),
            "a file of a known edition (this one is altered, cut or another: its SHA-256 is none "
            "of theirs); data.verify=false accepts any files of valid content",
        )
    splits, unknown = _decode(files, contents)
    for split, (images, labels) in splits.items():
        _check(split, images, labels, files)
    kept = {
        split: _keep(images, labels, getattr(config, f"{split}_images"), [config.seed, index])
        for index, (split, (images, labels)) in enumerate(splits.items())
    }
    train, test = kept["train"], kept["test"]
    counts = f"{len(train[0]):,} training and {len(test[0]):,} test images"
    return Dataset(
        *train,
        *test,
        *pixel_statistics(train[0]),
        CLASSES,
        f"{EDITIONS.get(sums, unknown)}: {counts}",
        {file.name: part for file, part in zip(files, sums, strict=True)},
    )


def select(labels: np.ndarray, count: int, seed: list[int]) -> np.ndarray:
    """Indices (count,) of a seeded selection with equally many of each class, give or take one.

    A smaller selection of the same seed is the beginning of a larger one. ``labels``: (images,),
    equally many of each class.
    """
    random = np.random.default_rng(seed)
    by_class = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    rounds = np.stack(by_class, axis=1)  # a row has one image of each class
    return random.permuted(rounds, axis=1).ravel()[:count]


def _keep(images: np.ndarray, labels: np.ndarray, count: int, seed: list[int]) -> Split:
    if count == len(labels):
        return images, labels
    chosen = select(labels, count, seed)
    return images[chosen], labels[chosen]


def _locate(path: Path) -> list[Path]:
    """The files of the edition at ``path``: two Parquet files, one archive, or six .bin files."""
    folder = path.parent if path.suffix in (".parquet", ".bin") else path
    packed = path.name.endswith((".tar.gz", ".tgz")) and os.path.isfile(path)
    candidates = [[path]] if packed else []
    for parent in (folder, folder / "plain_text"):
        candidates.append([parent / name for name in PARQUET.values()])
    candidates.append([folder / ARCHIVE])
    for parent in (folder, folder / _archive.FOLDER):
        candidates.append([parent / name for name in _archive.FILES])
    # os.path.isfile is False, too, for what this user may not see.
    present = [[os.path.isfile(file) for file in files] for files in candidates]
    for files, found in zip(candidates, present, strict=True):
        if all(found):
            return files
    for files, found in zip(candidates, present, strict=True):
        if any(found):
            missing = files[found.index(False)].name
            raise InputError("data.path", str(path), f"a folder that also has {missing}")
    parquet = " and ".join(PARQUET.values())
    raise InputError(
        "data.path", str(path), f"a folder with {parquet}, or with {ARCHIVE}, or such a file"
    )


def _download_archive() -> Path:
    from lrrt.datasets import _download

    return _download.fetch(ARCHIVE_URL, DOWNLOADS / ARCHIVE, ARCHIVE_SHA256)


def _read_file(file: Path) -> bytes:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise InputError("data.path", str(file), f"a file of at most {LARGEST_FILE:,} bytes")
        return file.read_bytes()
    except OSError as error:
        raise InputError("data.path", str(file), f"a readable file ({error.strerror})") from None


def _decode(files: list[Path], contents: list[bytes]) -> tuple[dict[str, Split], str]:
    """Both splits, and what to call them where the edition is unknown."""
    if files[0].suffix == ".parquet":
        splits, formats = {}, set()
        for split, file, content in zip(PARQUET, files, contents, strict=True):
            try:
                images, labels, found = _parquet.read(content, IMAGES[split], SHAPE)
            except ValueError as error:
                raise InputError("data.path", str(file), f"CIFAR-10 as Parquet ({error})") from None
            splits[split] = images, labels
            formats |= found
        names = " and ".join(sorted(formats))
        return splits, f"CIFAR-10 (Parquet of an unknown edition, {names} images)"
    try:
        if len(files) == 1:
            batches, unknown = _archive.read(contents[0]), "CIFAR-10 (an unknown binary archive)"
        else:
            batches, unknown = contents, "CIFAR-10 (extracted binary files)"
        return _archive.parse(batches), unknown
    except ValueError as error:
        raise InputError("data.path", str(files[0]), f"CIFAR-10, binary ({error})") from None


def _check(split: str, images: np.ndarray, labels: np.ndarray, files: list[Path]) -> None:
    """Raise unless there are as many images, of the shape, and of each class, as there must be."""
    expected = (IMAGES[split], *SHAPE)
    problem = ""
    if images.shape != expected or labels.shape != expected[:1]:
        problem = f"{split}: images of shape {images.shape} and labels of shape {labels.shape}"
    elif labels.min() < 0 or labels.max() >= len(CLASSES):
        problem = f"{split}: labels from {labels.min()} to {labels.max()}"
    elif np.any(np.bincount(labels, minlength=len(CLASSES)) != IMAGES[split] // len(CLASSES)):
        problem = f"{split}: unequal numbers of images of the classes"
    if problem:
        raise InputError(
            "data.path", str(files[0].parent), f"files of CIFAR-10's content (found {problem})"
        )
