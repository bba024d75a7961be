"""Batches, drawn with NumPy: the same pixels for every framework.

A plan says which images make a batch, how each is shifted and which are flipped; :func:`apply`
carries it out on whole arrays by index arithmetic.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lrrt.core.protocol import CHOICES, Protocol
from lrrt.core.random_streams import stream
from lrrt.errors import InputError

CROP_PADDING = 4  # pixels
SHIFT_SHARE = 0.1  # of the side
CHUNK = 32  # images interpolated at once: their windows fit a core's cache


class Draws(NamedTuple):
    """One batch. Pixel (y, x) of an image is read at (y + dy, x + dx) of the original, and the
    result mirrored left to right where it is flipped."""

    indices: np.ndarray  # (batch,) int64, into the images
    shifts: np.ndarray  # (batch, 2) float64, dy and dx in pixels; whole for "crop"
    flips: np.ndarray  # (batch,) bool


@lru_cache(maxsize=4)
def _permutation(count: int, order_seed: int, epoch: int) -> np.ndarray:
    order = stream(order_seed, f"order {epoch}").permutation(count)
    order.flags.writeable = False
    return order


class BatchPlan:
    """Which images, shifts and flips make up each step's batch.

    Each epoch goes through a new permutation of all images in whole batches; the rest is left
    out. The order depends on ``order_seed`` and ``count`` alone, and any step is drawn without
    those before it.

    Parameters
    ----------
    count : int
        Images to choose from.
    batch_size, order_seed : int
    augmentation : {"none", "crop", "shift"}
        ``crop``: whole pixels, uniform from -4 to 4 in each axis, as a random crop after padding
        by 4. ``shift``: real, uniform up to a tenth of ``size`` either way in each axis.
    flip : bool
        Whether each image is mirrored with probability one half.
    size : int
        Side of the images, in pixels.
    augmentation_seed : int, optional
        Of the shifts and flips, by step; ``order_seed`` unless given.

    Raises
    ------
    InputError
        For a batch size that is not from 1 to ``count``, a negative seed, an unknown augmentation.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        order_seed: int,
        augmentation: str = "none",
        flip: bool = False,
        size: int = 32,
        augmentation_seed: int | None = None,
    ):
        if augmentation_seed is None:
            augmentation_seed = order_seed
        if not 1 <= batch_size <= count:
            raise InputError("batch_size", batch_size, f"from 1 to the number of images, {count}")
        for key, seed in (("order_seed", order_seed), ("augmentation_seed", augmentation_seed)):
            if seed < 0:
                raise InputError(key, seed, "a whole number from 0")
        kinds = CHOICES["augmentation"]
        if augmentation not in kinds:
            raise InputError("augmentation", augmentation, f"one of: {', '.join(kinds)}")
        self.count, self.batch_size, self.order_seed = count, batch_size, order_seed
        self.augmentation, self.flip, self.size = augmentation, flip, size
        self.augmentation_seed = augmentation_seed
        self.steps_per_epoch = count // batch_size

    def draws(self, step: int) -> Draws:
        """The batch of one step, counted from 0 over all epochs."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = _permutation(self.count, self.order_seed, epoch)
        indices = order[within * self.batch_size : (within + 1) * self.batch_size]
        shifts = np.zeros((self.batch_size, 2))
        if self.augmentation == "crop":
            random = stream(self.augmentation_seed, f"crop {step}")
            shifts[:] = random.integers(-CROP_PADDING, CROP_PADDING + 1, shifts.shape)
        elif self.augmentation == "shift":
            furthest = SHIFT_SHARE * self.size
            random = stream(self.augmentation_seed, f"shift {step}")
            shifts[:] = random.uniform(-furthest, furthest, shifts.shape)
        flips = np.zeros(self.batch_size, dtype=bool)
        if self.flip:
            flips[:] = stream(self.augmentation_seed, f"flip {step}").random(self.batch_size) < 0.5
        return Draws(indices, shifts, flips)


def _scale(images: np.ndarray, protocol: Protocol, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Scale ``images`` (count, height, width, channels), pixels from 0 to 255, in float32.

    A float32 array is changed in place.
    """
    _, _, width, channels = images.shape
    rows = images.reshape(-1, width * channels).astype(np.float32, copy=False)
    if protocol.normalise:
        mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        # By whole rows of pixels: broadcasting over a few channels is slow, and so it is over an
        # image of 32 x 32 x 3 floats, a multiple of 4,096 bytes, where loads and stores collide.
        rows *= np.tile((1 / (255 * std)).astype(np.float32), width)
        rows -= np.tile((mean / std).astype(np.float32), width)
    else:
        rows *= np.float32(1 / 255)
    return rows.reshape(images.shape)


def prepare(
    images: np.ndarray, protocol: Protocol, mean: np.ndarray, std: np.ndarray
) -> np.ndarray:
    """Scaled images: pixels / 255, then minus the mean and over the deviation if the protocol
    normalises.

    Parameters
    ----------
    images : uint8 array of shape (count, height, width, channels)
    mean, std : arrays of shape (channels,)
        Of pixels / 255.

    Returns
    -------
    float32 array of the shape of ``images``; tokens (count, tokens) as int32
    """
    if images.ndim == 2:
        return images.astype(np.int32)
    return _scale(images, protocol, mean, std)


def _mirror(positions: np.ndarray, side: int) -> np.ndarray:
    """Positions within 0 ... side - 1: those outside reflected, the edge not repeated."""
    period = max(2 * (side - 1), 1)
    positions = positions % period
    return np.minimum(positions, period - positions)


def _gather(
    images: np.ndarray, indices: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """``images[indices[i], rows[i, y], columns[i, x]]``, (batch, height, width, channels)."""
    _, height, width, channels = images.shape
    pixels = images.reshape(-1, channels)
    positions = ((indices[:, None] * height + rows) * width)[:, :, None] + columns[:, None, :]
    return pixels.take(positions, axis=0)


def apply(
    images: np.ndarray,
    draws: Draws,
    protocol: Protocol,
    mean: np.ndarray,
    std: np.ndarray,
) -> np.ndarray:
    """One training batch: gathered, augmented as ``protocol.augmentation`` says, scaled.

    Parameters
    ----------
    images : uint8 array of shape (count, side, side, channels), or tokens (count, tokens)
        All training images.
    draws : Draws
        The batch, from a plan of the same augmentation.
    mean, std : arrays of shape (channels,)
        Of pixels / 255.

    Returns
    -------
    float32 array of shape (batch, side, side, channels), or int32 tokens (batch, tokens)
        ``crop`` reflects beyond the edges; ``shift`` interpolates bilinearly in float32 and
        repeats the edge pixel beyond it.
    """
    indices, shifts, flips = draws
    side = images.shape[1]
    if images.ndim == 2:
        return images.take(indices, axis=0).astype(np.int32)
    if protocol.augmentation == "shift":
        shifted = np.empty((len(indices), *images.shape[1:]), dtype=np.float32)
        for start in range(0, len(indices), CHUNK):
            part = slice(start, start + CHUNK)
            shifted[part] = _shift(images, indices[part], shifts[part], flips[part])
        return _scale(shifted, protocol, mean, std)
    if protocol.augmentation == "none" and not flips.any():
        return _scale(images.take(indices, axis=0), protocol, mean, std)
    offsets = shifts.astype(np.int64)
    positions = np.arange(side)
    rows = _mirror(positions + offsets[:, :1], side)
    columns = _mirror(positions + offsets[:, 1:], side)
    columns[flips] = columns[flips, ::-1]
    return _scale(_gather(images, indices, rows, columns), protocol, mean, std)


def _shift(
    images: np.ndarray, indices: np.ndarray, shifts: np.ndarray, flips: np.ndarray
) -> np.ndarray:
    """Images moved by real shifts, float32, pixels from 0 to 255."""
    side = images.shape[1]
    whole = np.floor(shifts)
    parts = (shifts - whole).astype(np.float32)
    # A window one pixel wider than the image holds both neighbours of every position.
    positions = np.arange(side + 1)
    rows = np.clip(positions + whole[:, :1].astype(np.int64), 0, side - 1)
    columns = np.clip(positions + whole[:, 1:].astype(np.int64), 0, side - 1)
    # A mirrored window mirrors the result, its neighbours trading places.
    columns[flips] = columns[flips, ::-1]
    parts[flips, 1] = 1 - parts[flips, 1]
    window = _gather(images, indices, rows, columns).astype(np.float32)
    down, right = parts[:, 0, None, None, None], parts[:, 1, None, None, None]
    below = window[:, 1:] - window[:, :-1]
    below *= down
    below += window[:, :-1]
    result = below[:, :, 1:] - below[:, :, :-1]
    result *= right
    result += below[:, :, :-1]
    return result
