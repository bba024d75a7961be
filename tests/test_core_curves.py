"""Ramps, smoothing, curves, and what a protocol's finder records of them."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrrt.core.curve import Curve
from lrrt.core.protocol import Protocol, Ramp, WeightDecay
from lrrt.core.ramp import geometric_grid, grid, training_lrs
from lrrt.core.recording import recording
from lrrt.core.smoothing import ema
from lrrt.errors import InputError

ramps = st.builds(
    lambda start, decades, shape, end_at, pairing: Ramp(
        start=10.0**start,
        end=10.0 ** (start + decades),
        shape=shape,
        end_at=end_at,
        pairing=pairing,
    ),
    st.floats(-9, 0),
    st.floats(0.1, 10),
    st.sampled_from(["exponential", "linear"]),
    st.sampled_from(["last", "after_last"]),
    st.sampled_from(["before", "after"]),
)


@settings(max_examples=60, deadline=None)
@given(ramps, st.integers(2, 300))
def test_a_ramp_goes_from_start_to_end_in_equal_strides(ramp, steps):
    values = grid(ramp, steps)
    assert values.shape == (steps,) and values.dtype == np.float64
    assert values[0] == ramp.start
    scale = np.log if ramp.shape == "exponential" else np.asarray
    strides = np.diff(scale(values))
    intervals = steps - 1 if ramp.end_at == "last" else steps
    expected = (scale(ramp.end) - scale(ramp.start)) / intervals
    np.testing.assert_allclose(strides, expected, rtol=1e-6)
    if ramp.end_at == "last":
        assert values[-1] == ramp.end


@settings(max_examples=30, deadline=None)
@given(ramps, st.integers(1, 50))
def test_pairing_after_trains_one_step_late(ramp, steps):
    values, trained = grid(ramp, steps), training_lrs(ramp, steps)
    late = 1 if ramp.pairing == "after" else 0
    assert trained.tolist() == [values[max(i - late, 0)] for i in range(steps)]


def test_the_two_protocols_ramps():
    keras = grid(Ramp(end_at="last"), 97)
    assert (keras[0], keras[-1]) == (1e-7, 100)
    fastai = grid(Ramp(end_at="after_last"), 100)
    assert fastai[-1] == pytest.approx(10**1.91)
    assert fastai[1] / fastai[0] == pytest.approx(10**0.09)


@pytest.mark.parametrize("steps", [0, -3])
def test_a_ramp_has_steps(steps):
    with pytest.raises(InputError, match="ramp.steps"):
        grid(Ramp(), steps)


def test_a_ramp_of_one_step_is_its_start():
    for end_at in ("last", "after_last"):
        assert grid(Ramp(end_at=end_at), 1).tolist() == [1e-7]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0, 0.999))
def test_ema_is_the_weighted_mean_of_what_came_before(losses, beta):
    found = ema(np.array(losses), beta)
    for k in range(1, len(losses) + 1):
        shares = beta ** np.arange(k)[::-1]
        expected = np.dot(shares / shares.sum(), losses[:k])
        assert found[k - 1] == pytest.approx(expected, rel=1e-9, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.floats(-100, 100), st.integers(1, 200))
def test_ema_of_a_constant_is_the_constant(value, steps):
    np.testing.assert_allclose(ema(np.full(steps, value)), value, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_ema_keeps_what_is_not_finite_without_a_warning(bad):
    losses = np.array([3.0, 2.0, bad, 1.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ema(losses)
        both = ema(np.array([np.inf, -np.inf, 1.0]))
    np.testing.assert_array_equal(found[:2], ema(losses[:2]))
    np.testing.assert_array_equal(found[2:], [bad] * 3)
    assert np.isnan(both[1:]).all()


def test_ema_leaves_its_input_alone():
    losses = np.array([3, 2, 1])
    assert ema(losses).dtype == np.float64
    assert losses.tolist() == [3, 2, 1]


def curve(steps=20, **changes):
    arrays = {
        "lr": training_lrs(Ramp(pairing="after"), steps),
        "loss": np.linspace(3, 1, steps),
        "penalty": np.full(steps, 6.0),
        "grad_norm": np.ones(steps),
    }
    return Curve(**(arrays | changes))


def test_a_curve_is_float64_and_of_one_length():
    found = curve(loss=np.linspace(3, 1, 20, dtype=np.float32), val_loss=[1] * 20)
    assert found.loss.dtype == found.val_loss.dtype == np.float64
    assert found.val_accuracy is None
    for changes in ({"loss": np.ones(19)}, {"val_loss": np.ones((20, 1))}):
        with pytest.raises(InputError, match=f"curve.{next(iter(changes))}"):
            curve(**changes)
    with pytest.raises(InputError, match="curve.lr"):
        Curve(*[np.empty(0)] * 4)


def test_what_the_keras_finder_recorded():
    protocol = Protocol(
        ramp=Ramp(pairing="after", end_at="last", steps=7),
        weight_decay=WeightDecay(kind="l2", recorded=True),
    )
    raw = curve()
    lr, loss = recording(raw, protocol)
    # As many steps as the curve has, whatever the protocol says; one step ahead of training.
    np.testing.assert_array_equal(lr, grid(protocol.ramp, 20))
    np.testing.assert_array_equal(lr[:-1], raw.lr[1:])
    np.testing.assert_array_equal(loss, raw.loss + 6)


def test_what_the_fastai_finder_recorded():
    protocol = Protocol(
        ramp=Ramp(pairing="before", end_at="after_last"),
        weight_decay=WeightDecay(kind="l2", recorded=False),
    )
    lr, loss = recording(curve(lr=grid(protocol.ramp, 20)), protocol)
    np.testing.assert_array_equal(lr, grid(protocol.ramp, 20))
    np.testing.assert_array_equal(loss, curve().loss)


def test_recording_changes_no_curve_and_does_not_warn():
    raw = curve(loss=np.full(20, np.inf), penalty=np.full(20, -np.inf))
    protocol = Protocol(weight_decay=WeightDecay(recorded=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lr, loss = recording(raw, protocol)
    lr[:], loss[:] = 0, 0
    assert (raw.lr > 0).all() and np.isinf(raw.loss).all()


def test_values_of_a_key_do_not_depend_on_numpy():
    assert geometric_grid(1e-3, 10.0, 5) == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert geometric_grid(1e-3, 10.0, 7)[1:4] == [0.004641588833612777, 0.021544346900318832, 0.1]
    assert geometric_grid(2.0, 3.0, 1) == [2.0]
