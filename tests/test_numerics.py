"""What must hold of the numbers whatever the input, beyond the tests of each part.

Ramp, smoothing, rules, batch plans and weights under scaling, shifting, gaps and extremes; both
backends on random small networks and protocols; memory over many runs.
"""

import dataclasses
import sys
import time
import tracemalloc
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrrt import plugins
from lrrt.core import weights
from lrrt.core.batches import BatchPlan
from lrrt.core.curve import Curve
from lrrt.core.network import Node, fold, parameters
from lrrt.core.networks import resnet
from lrrt.core.protocol import LARGEST, SMALLEST, Protocol, Ramp
from lrrt.core.protocol import WeightDecay as Decay
from lrrt.core.ramp import grid, training_lrs
from lrrt.core.recording import recording
from lrrt.core.rules import replay
from lrrt.core.smoothing import ema
from lrrt.datasets import Dataset
from lrrt.runs.execute import execute
from lrrt.runs.spec import RunSpec

RULES = plugins.names("lrrt.core.rules")
tried = settings(deadline=None, derandomize=True, max_examples=50)
exponents = st.floats(-25, 25)
losses = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80).map(np.array)


def wavy(steps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A recorded curve with a plateau, a descent, an explosion and noise."""
    lr = grid(Ramp(), steps)
    x = np.log10(lr)
    noise = 0.02 * np.random.default_rng(seed).standard_normal(steps)
    explosion = np.exp(np.clip(3 * (x - 1), -50, 9))
    return lr, 2.3 - 1 / (1 + np.exp(-2 * (x + 2))) + noise + explosion


# --- ramp


@tried
@given(exponents, st.floats(0.01, 20), st.integers(2, 200), st.sampled_from(["last", "after_last"]))
def test_ramps_rise_and_follow_the_unit_of_the_lr(start, decades, steps, end_at):
    for shape in ("exponential", "linear"):
        ramp = Ramp(start=10**start, end=10 ** (start + decades), shape=shape, end_at=end_at)
        found = grid(ramp, steps)
        assert found.shape == (steps,) and (np.diff(found) > 0).all()
        assert found[0] == ramp.start and found[-1] <= ramp.end * (1 + 1e-12)
        eight = dataclasses.replace(ramp, start=8 * ramp.start, end=8 * ramp.end)
        np.testing.assert_allclose(grid(eight, steps), 8 * found, rtol=1e-12)


@pytest.mark.parametrize("shape", ["exponential", "linear"])
def test_the_longest_and_widest_ramp_that_the_configuration_allows(shape):
    ramp = Ramp(start=SMALLEST, end=LARGEST, shape=shape, pairing="after")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lrs = training_lrs(ramp, 100_000)
    assert np.isfinite(lrs).all() and (np.diff(lrs) >= 0).all()
    assert lrs[0] == lrs[1] == SMALLEST and 0.99 * LARGEST < lrs[-1] < LARGEST
    assert np.isfinite(lrs.astype(np.float32)).all() and (lrs.astype(np.float32) > 0).all()


# --- smoothing


@tried
@given(losses, st.floats(0, 0.999), st.floats(-1e3, 1e3))
def test_an_average_scales_shifts_and_stays_between_what_it_averages(loss, beta, shift):
    found = ema(loss, beta)
    np.testing.assert_array_equal(ema(-4 * loss, beta), -4 * found)  # a power of two: no rounding
    scale = 1e-9 * (1 + np.abs(loss).max() + abs(shift))
    np.testing.assert_allclose(ema(loss + shift, beta), found + shift, rtol=0, atol=scale)
    assert (found <= np.maximum.accumulate(loss) + scale).all()
    assert (found >= np.minimum.accumulate(loss) - scale).all()


@tried
@given(losses, st.floats(0, 0.999))
def test_an_average_of_a_descent_descends(loss, beta):
    descent = np.sort(loss)[::-1]
    assert (np.diff(ema(descent, beta)) <= 1e-9 * (1 + np.abs(loss).max())).all()


@tried
@given(losses, st.data())
def test_an_average_depends_on_the_past_alone(loss, data):
    at = data.draw(st.integers(0, len(loss) - 1))
    spoilt = loss.copy()
    spoilt[at] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    found = ema(spoilt)
    np.testing.assert_array_equal(found[:at], ema(loss)[:at])
    assert not np.isfinite(found[at:]).any()


def test_a_very_long_average():
    constant = ema(np.full(1_000_000, 2.5))
    np.testing.assert_allclose(constant, 2.5, rtol=1e-12)
    assert ema(np.array([7.0])).tolist() == [pytest.approx(7.0)]
    np.testing.assert_allclose(ema(np.full(5, 1e308)), 1e308, rtol=1e-12)


# --- rules and their stops


@pytest.mark.parametrize("rule", RULES)
def test_a_very_long_curve(rule):
    started = time.process_time()  # other processes may be busy
    lr, loss = wavy(10_000)
    found = replay(rule, lr, loss)
    assert time.process_time() - started < 5
    assert not found.reason
    assert found.stop_step is None or 8_000 < found.stop_step < 10_000  # some never stop


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [0.0, 2.3, -1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("steps", [1, 2, 3, 17, 100])
def test_a_curve_that_says_nothing(rule, value, steps):
    lr = grid(Ramp(), steps)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = replay(rule, lr, np.full(steps, value))
    answers = [found.min_lr, found.max_lr]
    assert bool(found.reason) == (answers == [None, None])
    for answer in answers:  # a source that answers nevertheless answers with a rate of the test
        if answer is not None and rule != "torchtuples":  # bounds of its own, whatever the ramp
            assert lr[0] / 10 <= answer <= lr[-1]


@pytest.mark.parametrize("rule", RULES)
def test_a_gap_anywhere(rule):
    """A NaN or an infinity at any one step: an answer within the test, or a reason."""
    lr, loss = wavy(60)
    for at in range(60):
        for value in (np.nan, np.inf, -np.inf):
            spoilt = loss.copy()
            spoilt[at] = value
            found = replay(rule, lr, spoilt)
            answers = [answer for answer in (found.min_lr, found.max_lr) if answer is not None]
            assert bool(answers) != bool(found.reason)
            assert all(lr[0] / 10 <= answer <= lr[-1] for answer in answers)


@pytest.mark.parametrize("rule", RULES)
def test_a_stop_ends_the_test(rule):
    """What comes after the step at which the test would have ended changes nothing."""
    for seed in range(20):
        lr, loss = wavy(500, seed)
        found = replay(rule, lr, loss)
        if found.stop_step is None:
            pytest.skip("it never stops")
        for after in (-1e9, np.nan, np.inf):
            loss[found.stop_step + 1 :] = after
            assert replay(rule, lr, loss) == found


@tried
@given(losses, st.booleans())
def test_what_is_recorded_is_of_the_curves_length(loss, with_penalty):
    protocol = Protocol(weight_decay=Decay("l2", 0.1, recorded=with_penalty))
    lr = training_lrs(protocol.ramp, len(loss))
    curve = Curve(lr, loss, np.full(len(loss), 3.0), np.ones(len(loss)))
    found_lr, found = recording(curve, protocol)
    assert found_lr.shape == found.shape == loss.shape
    np.testing.assert_array_equal(found, loss + 3 * with_penalty)


# --- batch plans


@tried
@given(st.integers(1, 300), st.data())
def test_plans_at_the_ends(count, data):
    size = data.draw(st.sampled_from([1, count]))
    seed = data.draw(st.sampled_from([0, 2**62 + 100_000, 2**63 - 1]))
    plan = BatchPlan(count, size, seed, data.draw(st.sampled_from(["crop", "shift"])), flip=True)
    draws = plan.draws(data.draw(st.sampled_from([0, 10**6, 10**9])))
    assert draws.indices.shape == (size,) and draws.shifts.shape == (size, 2)
    assert ((draws.indices >= 0) & (draws.indices < count)).all()
    assert np.abs(draws.shifts).max() <= 4 and draws.flips.dtype == bool


# --- weights


@tried
@given(st.sampled_from([8, 14]), st.sampled_from([8, 16, 24]), st.integers(1, 4), st.data())
def test_weights_have_the_networks_shapes_and_no_seed_is_too_large(depth, width, channels, data):
    classes = data.draw(st.integers(2, 12))
    seed = data.draw(st.integers(0, 2**63 - 1))
    scheme = data.draw(st.sampled_from(["he_uniform", "he_normal", "glorot_uniform"]))
    nodes = resnet.nodes(resnet.Model(depth=depth, width=width), (32, 32, channels), classes)
    drawn = weights.draw(nodes, scheme, "uniform", seed)
    assert {n: a.shape for n, a in drawn.items()} == {p.name: p.shape for p in parameters(nodes)}
    assert all(a.dtype == np.float32 and np.isfinite(a).all() for a in drawn.values())


def test_wider_layers_have_smaller_weights():
    deviations = []
    for width in (8, 16, 32, 64):
        nodes = resnet.nodes(resnet.Model(depth=8, width=width), (32, 32, 3), 10)
        kernel = weights.draw(nodes, "he_normal", "zero", 0)["stage3_block1_conv2.kernel"]
        deviations.append(kernel.std() * np.sqrt(width))
    np.testing.assert_allclose(deviations, deviations[0], rtol=0.05)


def test_folding_a_random_network_keeps_its_parameters():
    for seed in range(20):
        nodes, _ = random_case(seed)
        drawn = weights.draw(nodes, "he_uniform", "uniform", seed)
        folded, arrays = fold(nodes, drawn, 1e-3)
        assert {n: a.shape for n, a in arrays.items()} == {
            p.name: p.shape for p in parameters(folded)
        }
        assert not {"batch_norm"} & {node.operation for node in folded}


# --- both backends


def random_case(seed: int) -> tuple[list[Node], Protocol]:
    """A small network, made of blocks at random, and a protocol with each factor at random."""
    random = np.random.default_rng([9, seed])

    def choose(*options):
        return options[random.integers(len(options))]

    nodes, before, channels = [], "input", 3
    for i in range(random.integers(2, 4)):
        width = choose(8, 16)
        kernel = choose(1, 3) if i else 3  # 1x1 needs a multiple of 8 channels
        conv = Node(f"conv{i}", "conv", (before,), width, channels, kernel, choose(1, 2))
        norm = Node(f"norm{i}", "batch_norm", (conv.name,), width, width)
        relu = Node(f"relu{i}", "relu", (norm.name,), width)
        again = Node(f"again{i}", "conv", (relu.name,), width, width, 3)
        last = Node(f"last{i}", "batch_norm", (again.name,), width, width)
        add = Node(f"add{i}", "add", (last.name, relu.name), width)
        nodes += [conv, norm, relu, again, last, add]
        before, channels = add.name, width
    pool = Node("pool", "global_average_pool", (before,), channels)
    nodes += [pool, Node("dense", "dense", ("pool",), 10, channels)]
    kind = choose("none", "l2", "decoupled")
    protocol = Protocol(
        weights=choose("he_uniform", "he_normal", "glorot_uniform"),
        dense_bias=choose("zero", "uniform"),
        padding=choose("same", "symmetric"),
        batch_norm_momentum=choose(0.0, 0.9, 0.99, 1.0),
        batch_norm_epsilon=choose(1e-5, 1e-3),
        batch_norm_unbiased=choose(True, False),
        normalise=choose(True, False),
        augmentation=choose("none", "crop", "shift"),
        flip=choose(True, False),
        momentum=choose(0.0, 0.5, 0.9),
        momentum_form=choose("lr_outside", "lr_inside"),
        gradient_clip=choose(None, 0.5, 100.0),
        weight_decay=Decay(kind, choose(1e-4, 1e-2), choose(1.0, 2.0), choose(0.0, 1.0), 0.5),
    )
    return nodes, protocol


@pytest.mark.parametrize("seed", range(4))
def test_backends_agree_on_a_random_network_and_protocol(run, seed):
    if not all(map(find_spec, ("torch", "tensorflow"))):
        pytest.skip("needs PyTorch and TensorFlow")
    from test_backends import both

    nodes, protocol = random_case(seed)
    one, two = both(run, nodes, protocol, [0.01, 0.02, 0.02], batch=8)
    np.testing.assert_allclose(one[0][0], two[0][0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(one[0], two[0], rtol=2e-4, atol=1e-6)
    assert one[1].keys() == two[1].keys()
    for name, array in one[1].items():
        np.testing.assert_allclose(array, two[1][name], rtol=1e-3, atol=1e-4, err_msg=name)


# --- memory


def test_memory_is_flat_over_200_runs(monkeypatch):
    """Of what Python allocates, arrays included; ``python -m reliability`` does it with PyTorch."""
    fakes = Path(__file__).parents[1] / "reliability" / "fakes" / "backends"
    import lrrt.backends

    monkeypatch.setattr(lrrt.backends, "__path__", [*lrrt.backends.__path__, str(fakes)])
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, 64)
    half = np.full(3, 0.5)
    dataset = Dataset(images, labels, images, labels, half, half, tuple("0123456789"), "")
    spec = RunSpec(
        "range_test",
        "linear",
        Protocol(ramp=Ramp(steps=10)),
        resnet.Model(depth=8, width=8),
        dataset.digest,
        0,
        0,
        8,
        10,
    )
    tracemalloc.start()
    try:
        held = []
        for i in range(200):
            execute(dataclasses.replace(spec, weights_seed=i, order_seed=i), dataset)
            if i in (20, 199):
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        sys.modules.pop("lrrt.backends.linear", None)
    assert held[1] - held[0] < 200_000, held  # a run's arrays alone take a megabyte
