"""Data sets: what one is, how it is kept in a file, and where it comes from.

A data set module has one function ``load(config: DataSection) -> Dataset``; its name is what
``data.name`` says. With ``validate(config)`` it may raise :class:`lrrt.InputError` for what it
cannot give, before anything runs; one of tokens says ``GIVES = "tokens"``. A new data set is a new
module (and one file in ``conf/data/``).
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise_arrays

from lrrt import plugins
from lrrt.config import DataSection
from lrrt.errors import InputError
from lrrt.files import write_whole

FORMAT_VERSION = "1"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels", "mean", "std")
DTYPES = dict(zip(ARRAYS, ("u1", "i8", "u1", "i8", "f8", "f8"), strict=True))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images of a few classes, or windows of tokens, in two splits. The arrays are read-only.

    ``train_images``, ``test_images``: uint8 (images, height, width, channels).
    ``train_labels``, ``test_labels``: int64 (images,), indices into ``classes``.
    ``mean``, ``std``: float64 (channels,), of the training pixels divided by 255.
    Of tokens: uint8 (windows, tokens), indices into ``classes``; labels (windows, tokens), the
    token that follows each; mean and std (0,).
    ``description``: one sentence that every figure made from these images can carry.
    ``sources``: SHA-256 of each file that the images were made from, by name.

    Raises
    ------
    ValueError
        If shapes, counts or labels do not fit together.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    classes: tuple[str, ...]
    description: str
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for name in ARRAYS:
            given = np.asarray(getattr(self, name))
            array = np.ascontiguousarray(given).astype(DTYPES[name], casting="safe", copy=False)
            array = array.view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        shape = self.train_images.shape
        if len(shape) not in (2, 4) or shape[1:] != self.test_images.shape[1:]:
            raise ValueError(f"images have shapes {shape} and {self.test_images.shape}")
        statistics = shape[3:] or (0,)
        if not self.mean.shape == self.std.shape == statistics:
            raise ValueError(f"mean and std are not of shape {statistics}")
        for split in ("train", "test"):
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            labelled = images.shape[: 1 if images.ndim == 4 else 2]
            if labels.shape != labelled or not len(labels):
                raise ValueError(f"{split}: {images.shape[0]} images, {labels.shape} labels")
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise ValueError(f"{split}: labels outside 0 to {len(self.classes) - 1}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of all that a run can depend on: not ``description``, nor ``sources``."""
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for name in ARRAYS:
            array = getattr(self, name)
            digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
            digest.update(array.reshape(-1).view(np.uint8))
        return digest.hexdigest()


def pixel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of ``images / 255`` per channel, each float64 (channels,).

    ``images``: uint8 (images, height, width, channels). The sums are of integers, hence exact, and
    each result is rounded once: the same bits on every machine.
    """
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), 1024):  # bincount works on a copy eight times as large
        pixels = images[start : start + 1024].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel], minlength=256)
    mean, std = np.empty(channels), np.empty(channels)
    for channel, histogram in enumerate(counts.tolist()):
        count = sum(histogram)
        first = sum(value * n for value, n in enumerate(histogram))
        second = sum(value**2 * n for value, n in enumerate(histogram))
        mean[channel] = first / (255 * count)
        std[channel] = ((count * second - first**2) / (255 * count) ** 2) ** 0.5
    return mean, std


def load(config: DataSection) -> Dataset:
    """Render, read or download the data set that ``config`` names.

    Raises
    ------
    InputError
        If there is no such data set, or what it is made from is missing or wrong.
    """
    return plugins.find("lrrt.datasets", config.name, "data.name").load(config)


def save(dataset: Dataset, path: str | Path) -> None:
    """Write ``dataset`` as one safetensors file, whole or not at all."""
    about = {
        "format_version": FORMAT_VERSION,
        "digest": dataset.digest,
        "classes": dataset.classes,
        "description": dataset.description,
        "sources": dataset.sources,
    }
    # One entry only: safetensors writes several in an order that changes from run to run.
    metadata = {"dataset": json.dumps({"about": about, "sha256": _checksum(about)})}
    arrays = {name: getattr(dataset, name) for name in ARRAYS}
    write_whole(Path(path), serialise_arrays(arrays, metadata))


def open_dataset(path: str | Path) -> Dataset:
    """Open a file of :func:`save`; the arrays are mapped, so that processes share the memory.

    All of it is read once and compared with its checksum.

    Raises
    ------
    InputError
        If the file is missing, cut, altered or of another format version.
    """
    path = Path(path)
    try:
        return _open(path)
    except FileNotFoundError:
        reason = "missing"
    except OSError as error:
        reason = error.strerror or "unreadable"
    except (SafetensorError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        reason = "cut or unreadable"
    except ValueError as error:
        reason = str(error)
    raise InputError(
        "dataset",
        str(path),
        f"a sound file ({reason}); `python -m lrrt.stages.data` writes it again",
    )


def _open(path: Path) -> Dataset:
    with safe_open(path, framework="numpy") as file:  # holds offsets and length against each other
        metadata = json.loads((file.metadata() or {})["dataset"])
    about = metadata["about"]
    if about["format_version"] != FORMAT_VERSION:
        raise ValueError(f"it has format version {about['format_version']}, not {FORMAT_VERSION}")
    if metadata["sha256"] != _checksum(about):
        raise ValueError("its description was altered")
    content = np.memmap(path, np.uint8, "r")
    begin = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:begin].tobytes())
    arrays = []
    for name in ARRAYS:
        start, stop = (begin + offset for offset in header[name]["data_offsets"])
        array = np.asarray(content[start:stop]).view(DTYPES[name])
        arrays.append(array.reshape(header[name]["shape"]))
    dataset = Dataset(*arrays, tuple(about["classes"]), about["description"], about["sources"])
    if dataset.digest != about["digest"]:
        raise ValueError("its checksum does not match its content")
    return dataset


def _checksum(about: dict) -> str:
    """SHA-256 of what the file says about its arrays."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
