"""Batch plans and augmentation, held against the plain way to do each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrrt.core import batches
from lrrt.core.batches import BatchPlan, Draws
from lrrt.core.protocol import Protocol
from lrrt.errors import InputError

MEAN, STD = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])
PLAIN = Protocol(normalise=False, augmentation="none")


def images(count=6, side=32, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.data())
def test_an_epoch_is_a_permutation_in_whole_batches(count, data):
    batch = data.draw(st.integers(1, count))
    seed = data.draw(st.integers(0, 2**62))
    epoch = data.draw(st.integers(0, 3))
    plan = BatchPlan(count, batch, seed)
    first = epoch * plan.steps_per_epoch
    steps = [plan.draws(step)[0] for step in range(first, first + plan.steps_per_epoch)]
    taken = np.concatenate(steps)
    assert all(len(indices) == batch for indices in steps)
    assert len(set(taken.tolist())) == len(taken) == count // batch * batch
    assert taken.min() >= 0 and taken.max() < count


def test_epochs_and_seeds_have_orders_of_their_own():
    plan = BatchPlan(100, 100, 0)
    orders = [plan.draws(epoch)[0] for epoch in range(3)]
    orders += [BatchPlan(100, 100, 1).draws(0)[0]]
    assert len({tuple(order) for order in orders}) == 4


def test_the_order_does_not_depend_on_the_batch_size_or_the_augmentation():
    large = BatchPlan(64, 32, 7).draws(0)[0]
    plan = BatchPlan(64, 8, 7, "crop", flip=True)
    np.testing.assert_array_equal(large, np.concatenate([plan.draws(i)[0] for i in range(4)]))


@pytest.mark.parametrize("augmentation", ["none", "crop", "shift"])
def test_a_step_is_drawn_without_those_before_it(augmentation):
    plan = BatchPlan(50, 10, 3, augmentation, flip=True)
    in_turn = [plan.draws(step) for step in range(12)]
    for step in (11, 0, 7):
        alone = BatchPlan(50, 10, 3, augmentation, flip=True).draws(step)
        for a, b in zip(alone, in_turn[step], strict=True):
            np.testing.assert_array_equal(a, b)


def test_crops_and_shifts_have_their_laws():
    crop, shift = (
        BatchPlan(4000, 4000, 0, kind, True, size=20).draws(0) for kind in ("crop", "shift")
    )
    # Whole pixels, each of nine offsets a ninth of the time.
    offsets, counts = np.unique(crop.shifts, return_counts=True)
    assert offsets.tolist() == list(range(-4, 5))
    assert np.abs(counts / 8000 - 1 / 9).max() < 4 * np.sqrt(8 / 81 / 8000)
    # Real, up to a tenth of the side either way.
    assert np.abs(shift.shifts).max() <= 2.0 < 1.01 * np.abs(shift.shifts).max()
    assert shift.shifts.std() == pytest.approx(2 / np.sqrt(3), rel=0.03)
    assert not np.isin(shift.shifts, offsets).any()
    # The two axes are independent, and so are the flips.
    assert abs(np.corrcoef(crop.shifts.T)[0, 1]) < 0.07
    assert crop.flips.mean() == pytest.approx(0.5, abs=0.04)
    np.testing.assert_array_equal(crop.flips, shift.flips)


def test_without_augmentation_nothing_moves():
    draws = BatchPlan(20, 5, 0).draws(2)
    assert not draws.shifts.any() and not draws.flips.any()
    assert draws[0] is draws.indices


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ((10, 11, 0), "batch_size"),
        ((10, 0, 0), "batch_size"),
        ((10, 5, -1), "order_seed"),
        ((10, 5, 0, "rotate"), "augmentation"),
    ],
)
def test_impossible_plans_are_refused(arguments, key):
    with pytest.raises(InputError, match=f"^{key}: "):
        BatchPlan(*arguments)


def test_prepare_scales():
    pixels = images()
    np.testing.assert_allclose(batches.prepare(pixels, PLAIN, MEAN, STD), pixels / 255, rtol=1e-6)
    normalised = batches.prepare(pixels, Protocol(normalise=True), MEAN, STD)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, (pixels / 255 - MEAN) / STD, atol=2e-6)


def test_inputs_are_left_as_they_are():
    pixels = images()
    before = pixels.copy()
    for kind in ("none", "crop", "shift"):
        protocol = Protocol(augmentation=kind)
        draws = BatchPlan(6, 4, 0, kind, True).draws(0)
        batches.apply(pixels, draws, protocol, MEAN, STD)
    np.testing.assert_array_equal(pixels, before)


def naive(pixels, draws, kind):
    """Pixel by pixel, in float64."""
    side = pixels.shape[1]
    padded = [np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect") for image in pixels]
    result = np.empty((len(draws.indices), *pixels.shape[1:]))
    for i, (index, (dy, dx), flip) in enumerate(zip(*draws, strict=True)):
        for y in range(side):
            for x in range(side):
                if kind == "crop":
                    value = padded[index][int(4 + y + dy), int(4 + x + dx)]
                else:
                    value = bilinear(pixels[index].astype(float), y + dy, x + dx)
                result[i, y, side - 1 - x if flip else x] = value
    return result / 255


def bilinear(image, y, x):
    """The value at a real position, the edge going on beyond the image."""
    last = len(image) - 1
    y, x = np.clip(y, 0, last), np.clip(x, 0, last)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, last), min(left + 1, last)
    below, beside = y - top, x - left
    upper = (1 - beside) * image[top, left] + beside * image[top, right]
    lower = (1 - beside) * image[bottom, left] + beside * image[bottom, right]
    return (1 - below) * upper + below * lower


@pytest.mark.parametrize(("kind", "tolerance"), [("crop", 1e-7), ("shift", 2e-6)])
@pytest.mark.parametrize(("side", "channels"), [(32, 3), (9, 1)])
def test_augmentation_is_that_done_pixel_by_pixel(kind, tolerance, side, channels):
    pixels = images(side=side, channels=channels)
    draws = BatchPlan(6, 6, 1, kind, flip=True, size=side).draws(0)
    protocol = Protocol(normalise=False, augmentation=kind)
    found = batches.apply(pixels, draws, protocol, MEAN[:channels], STD[:channels])
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, naive(pixels, draws, kind), atol=tolerance)


@pytest.mark.parametrize("flips", [[False, False], [True, False]])
def test_zero_shift_is_the_image_itself(flips):
    pixels = images()
    draws = Draws(np.array([4, 1]), np.zeros((2, 2)), np.array(flips))
    expected = pixels[[4, 1]] / np.float32(255)
    expected[flips] = expected[flips][:, :, ::-1]
    for kind in ("none", "crop", "shift"):
        protocol = Protocol(normalise=False, augmentation=kind)
        found = batches.apply(pixels, draws, protocol, MEAN, STD)
        np.testing.assert_allclose(found, expected, rtol=2e-7)


@pytest.mark.parametrize("kind", ["none", "crop", "shift"])
def test_a_batch_does_not_depend_on_the_images_beside_it(kind):
    pixels = images(100, side=8)
    protocol = Protocol(augmentation=kind)
    draws = BatchPlan(100, 70, 0, kind, True, size=8).draws(0)
    together = batches.apply(pixels, draws, protocol, MEAN, STD)
    alone = [
        batches.apply(pixels, Draws(*(a[i : i + 1] for a in draws)), protocol, MEAN, STD)
        for i in range(70)
    ]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_shifts_are_those_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    pixels = images(1)
    draws = Draws(np.array([0]), np.array([[1.3, -2.8]]), np.array([False]))
    protocol = Protocol(normalise=False, augmentation="shift")
    found = batches.apply(pixels, draws, protocol, MEAN, STD)[0]
    expected = ndimage.shift(pixels[0] / 255, (-1.3, 2.8, 0), order=1, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=1e-6)
