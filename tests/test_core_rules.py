"""Each rule against a plain, step-by-step account of what its source does.

The accounts here keep the order of the sources' own callbacks (record, compare, stop) in Python
lists, and share no code with the rules.
"""

import math
import warnings
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrrt import plugins
from lrrt.core.accuracy_rules import smith
from lrrt.core.protocol import Ramp
from lrrt.core.ramp import grid
from lrrt.core.rules import Suggestion, replay
from lrrt.errors import InputError

RULES = plugins.names("lrrt.core.rules")
STEPS = {"blog_keras": 97}


def ramp(rule="", steps=None):
    end_at = "last" if rule == "blog_keras" else "after_last"
    return grid(Ramp(end_at=end_at), steps or STEPS.get(rule, 100))


def random_loss(lr, seed):
    """A plateau, a descent and an explosion, each at random, with noise; some with NaN or inf."""
    random = np.random.default_rng(seed)
    x = np.log10(lr)
    descent = random.uniform(0, 2) / (1 + np.exp(-2 * (x - random.uniform(-5, 1))))
    noise = 10 ** random.uniform(-5, -0.5) * random.standard_normal(len(lr))
    explosion = np.exp(np.clip((x - random.uniform(-2, 2)) * random.uniform(1, 4), -50, 9))
    loss = random.choice([2.3, 9.0]) - descent + noise + explosion
    if seed % 5 == 0:
        loss[random.integers(len(loss)) :] = random.choice([np.nan, np.inf])
    if seed % 7 == 0:
        loss[random.integers(len(loss))] = random.choice([np.nan, np.inf, -np.inf])
    return loss


# ---------------------------------------------------------------------------------------------
# The sources' callbacks


def corrected_average(losses, beta=0.98, late=0):
    average, smoothed = 0.0, []
    for k, loss in enumerate(losses, start=1):
        average = beta * average + (1 - beta) * loss
        smoothed.append(average / (1 - beta ** (k + late)))
    return smoothed


def seeded(losses):
    smoothed = [losses[0]]
    for loss in losses[1:]:
        smoothed.append(0.05 * loss + 0.95 * smoothed[-1])
    return smoothed


def run(smoothed, factor, at_nan=False, check_first=True):
    """The losses that are recorded, and the step that stops (None). ``check_first``: the best is
    updated before the comparison."""
    best = None
    for i, loss in enumerate(smoothed):
        if check_first:
            if best is None or loss < best:
                best = loss
            stop = loss > factor * best
        else:
            stop = best is not None and loss > factor * best
            if best is None or loss < best:
                best = loss
        if stop or (at_nan and math.isnan(loss)):
            return smoothed[: i + 1], i
    return smoothed, None


def slopes(values):
    """Central differences, one-sided at the ends."""
    inner = [(values[i + 1] - values[i - 1]) / 2 for i in range(1, len(values) - 1)]
    return [values[1] - values[0], *inner, values[-1] - values[-2]]


def least(values):
    """As np.argmin: the first NaN if there is one."""
    nans = [i for i, value in enumerate(values) if math.isnan(value)]
    return nans[0] if nans else min(range(len(values)), key=values.__getitem__)


def blog_keras(lr, loss):
    recorded, stop = run(corrected_average(loss), 10 - 20 * 0.98 / 3)
    lr, recorded = lr[: len(recorded)][5:-1], recorded[5:-1]
    lowest = least(recorded)
    nearest = lambda value: min(lr, key=lambda one: abs(one - value))  # noqa: E731
    max_lr = nearest(lr[lowest] / 10)
    slope = slopes(recorded)
    start = lowest
    while start > 0 and not slope[start - 1] >= 0:
        start -= 1
    # The source finds no start where the descent reaches back to the first of these steps.
    if 0 < start < lowest:
        min_lr = lr[start + least(slope[start:lowest])]
        if min_lr < max_lr and min_lr / max_lr <= 0.1:
            return Suggestion(min_lr, max_lr, stop_step=stop)
    return Suggestion(nearest(0.1 * max_lr), max_lr, fallback=True, stop_step=stop)


def blog_fastai(lr, loss):
    recorded, stop = run(corrected_average(loss), 4, at_nan=True)
    min_lr = lr[10 + least(slopes(recorded[10:-5]))]
    return Suggestion(min_lr, lr[least(recorded)] / 10, stop_step=stop)


def fastai1(lr, loss):
    recorded, stop = run(corrected_average(loss), 4, at_nan=True)
    kept = recorded[10:-5]
    return Suggestion(lr[10 + least(slopes(kept))], lr[10 + least(kept)] / 10, stop_step=stop)


def fastai2(lr, loss):
    recorded, stop = run(corrected_average(loss), 4)
    kept = np.float32(recorded[len(lr) // 10 : -5])
    whole = next((i for i, one in enumerate(kept) if math.isnan(one)), len(kept))
    return lr[len(lr) // 10 :][:whole], kept[:whole], stop


def fastai_steep(lr, loss):
    lr, kept, stop = fastai2(lr, loss)
    logs = np.log(np.float32(lr))
    rates = [(kept[i + 1] - kept[i]) / (logs[i + 1] - logs[i]) for i in range(len(kept) - 1)]
    return Suggestion(lr[least(rates)], None, stop_step=stop)


def fastai_minimum(lr, loss):
    lr, kept, stop = fastai2(lr, loss)
    return Suggestion(None, lr[least(kept)] / 10, stop_step=stop)


def half_way(losses):
    lengths = [1] * len(losses)
    start = end = 0
    for i in range(1, len(losses)):
        for j in range(i):
            if losses[i] < losses[j]:
                lengths[i] = max(lengths[i], lengths[j] + 1)
        if lengths[i] > lengths[end]:
            end = i
            start = end - lengths[end]
    third = (end - start) / 3
    return start + int(third) + int(third / 2)


def fastai_valley(lr, loss):
    lr, kept, stop = fastai2(lr, loss)
    return Suggestion(None, lr[half_way(kept)], stop_step=stop)


def fastai_slide(lr, loss):
    lr, kept, stop = fastai2(lr, loss)
    slope = slopes(kept)
    right, left = -1, -16
    found = lr[left]
    while left >= -len(kept) and abs(slope[right] - slope[left]) > 0.005:
        found = lr[left]
        right, left = right - 1, left - 1
    return Suggestion(None, found, stop_step=stop)


def torch_lr_finder(lr, loss):
    recorded, stop = run(seeded(loss), 5)
    return Suggestion(lr[10 + least(slopes(recorded[10:-5]))], None, stop_step=stop)


def ignite(lr, loss):
    recorded, stop = run(seeded(loss), 5)
    descent = np.float32(recorded[: least(np.float32(recorded)) + 1])
    return Suggestion(lr[1 + least(slopes(descent)[1:-1])], None, stop_step=stop)


def lightning_kept(lr, loss):
    recorded, stop = run(corrected_average(loss, late=1), 4, check_first=False)
    kept = recorded[10:-1]
    return [(lr[10 + i], one) for i, one in enumerate(kept) if math.isfinite(one)], stop


def lightning(lr, loss):
    kept, stop = lightning_kept(lr, loss)
    rates, losses = (np.float32(column) for column in zip(*kept, strict=True))
    gradient = np.gradient(losses, rates)
    return Suggestion(kept[least(gradient)][0], None, stop_step=stop)


def lightning_index(lr, loss):
    kept, stop = lightning_kept(lr, loss)
    losses = np.float32([one for _, one in kept])
    return Suggestion(lr[10 + least(slopes(losses))], None, stop_step=stop)


def ludwig(lr, loss):
    recorded, stop = run(corrected_average(loss), 3, check_first=False)
    finite = [one for one in recorded[10:-1] if math.isfinite(one)]
    return Suggestion(lr[10 + least(slopes(finite))], None, stop_step=stop)


def hamming(losses, half):
    """The weighted means of 2 * half losses around each, the ends repeated; NaN as it comes."""
    size = 2 * half
    weights = [0.54 - 0.46 * math.cos(2 * math.pi * i / (size - 1)) for i in range(size)]
    padded = [losses[0]] * half + losses + [losses[-1]] * half
    means = [
        sum(w * one for w, one in zip(weights, padded[i : i + size], strict=True)) / sum(weights)
        for i in range(len(padded) - size + 1)
    ]
    return means[1:]


def without_the_end(loss):
    """The package ends no test early: infinite losses at the end are our own filling."""
    return without_the_end(loss[:-1]) if loss[-1] == math.inf else loss


def neuralprophet(lr, loss):
    loss = without_the_end(loss)
    recorded = hamming(corrected_average(loss, late=1), math.ceil(round(len(lr) * 0.1) / 2))
    return Suggestion(lr[least(slopes(recorded))], None)


def neuralprophet_mean(lr, loss):
    recorded = corrected_average(without_the_end(loss), late=1)
    first = lr[least(slopes(hamming(recorded, 5)))]
    kept = [
        (lr[i], recorded[i]) for i in range(10, len(recorded) - 3) if math.isfinite(recorded[i])
    ]
    if len(kept) < 2:
        return Suggestion(first, None)
    rates, losses = (np.float32(column) for column in zip(*kept, strict=True))
    second = kept[least(np.gradient(losses, rates))][0]
    return Suggestion(math.sqrt(first * second), None)


def ml4h(lr, loss):
    recorded, stop = run(corrected_average(loss), 2)
    best = found = None
    for i in range(len(lr) // 10, len(recorded)):
        if recorded[i - 1] > recorded[0]:
            continue
        fall = sum(recorded[i - 5 : i - 1]) / 4 - sum(recorded[i - 4 : i]) / 4
        if fall > (-math.inf if best is None else best):
            best, found = fall, lr[i]
    return Suggestion(found, None, stop_step=stop)


def torchtuples(lr, loss):
    found = lr[least(corrected_average(loss))] / 10
    return Suggestion(None, min(max(found, 1e-4), 1.0))


def fastai_jl(lr, loss):
    recorded, stop = run(list(loss), 4)
    recorded = corrected_average(recorded)
    first = len(recorded) // 3 - 1
    quotients = [
        -(recorded[i + 1] - recorded[i]) / math.log(lr[i + 1] - lr[i])
        for i in range(first, len(recorded) - 1)
    ]
    lowest = lr[first + least(recorded[first:])] / 10
    return Suggestion(lr[first + least(quotients)], lowest, stop_step=stop)


def ultralytics_auto(lr, loss):
    recorded, best, stop = [], math.inf, None
    for i, one in enumerate(loss):
        recorded.append(one)
        best = min(best, one)
        if not math.isfinite(one) or one > 4 * best:
            stop = i
            break
    x = [math.log10(one) for one in lr[2 : len(recorded) - 2]]
    y = [sum(recorded[i : i + 5]) / 5 for i in range(len(x))]
    edge = least(y)
    x, y = x[: edge + 1], y[: edge + 1]
    descent = (-np.gradient(y, x)).tolist()
    peak = descent.index(max(descent))
    radius = max(edge // 8, 3)
    near = slice(max(peak - radius, 0), peak + radius + 1)
    a, b, _ = np.polynomial.Polynomial.fit(x[near], descent[near], 2).convert().coef[::-1]
    vertex = min(max(-b / (2 * a), x[0]), x[-1]) if a < 0 else x[peak]
    return Suggestion(None, float(f"{min(10 ** ((vertex + x[-1]) / 2), 0.01):.3g}"), stop_step=stop)


def keras_lr_finder(lr, loss):
    recorded, stop = run(list(loss), 4, at_nan=True, check_first=False)
    changes = [0.0] + [b - a for a, b in zip(recorded, recorded[1:], strict=False)]
    return Suggestion(lr[10 + least(changes[10:-5])], None, stop_step=stop)


def ktrain(lr, loss):
    recorded, stop = run(corrected_average(loss), 4, check_first=False)
    lowest = least(recorded)
    descent = recorded[32:lowest]
    min_lr = lr[least(slopes(descent))] if len(descent) > 1 else None
    return Suggestion(min_lr, lr[lowest] / 10, stop_step=stop)


def ktrain_valley(lr, loss):
    recorded, stop = run(corrected_average(loss), 4, check_first=False)
    return Suggestion(None, lr[: len(recorded)][half_way(recorded)], stop_step=stop)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule in globals()])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rule_does_what_its_source_does(rule):
    account = globals()[rule]
    lr = ramp(rule)
    compared = fallbacks = 0
    for seed in range(150):
        loss = random_loss(lr, seed)
        found = replay(rule, lr, loss)
        if found.reason:
            continue
        expected = account(lr.tolist(), loss.tolist())
        for name in ("min_lr", "max_lr"):
            value = getattr(expected, name)
            approximate = None if value is None else pytest.approx(value, rel=1e-12)
            assert getattr(found, name) == approximate, (seed, found, expected)
        assert (found.fallback, found.stop_step) == (expected.fallback, expected.stop_step), seed
        compared += 1
        fallbacks += found.fallback
    assert compared > (70 if rule in ("ml4h", "ultralytics_auto") else 100)
    if rule == "blog_keras":
        assert min(fallbacks, compared - fallbacks) > 5


def test_every_rule_is_told_apart_from_every_other():
    """On these curves, a tenth of them NaN at the end: else two could be swapped unnoticed."""
    lr = ramp()
    answers = {rule: [] for rule in RULES}
    for seed in range(150):
        loss = random_loss(lr, seed)
        for rule, answered in answers.items():
            found = replay(rule, lr, loss)
            answered.append((found.min_lr, found.max_lr))
    alike = [pair for pair in combinations(RULES, 2) if answers[pair[0]] == answers[pair[1]]]
    assert alike == []


# ---------------------------------------------------------------------------------------------
# Cases small enough to follow by hand


def v_curve(lr, at, depth=1.0, level=3.0):
    """Falls by ``depth`` over the three decades before ``at``, level before, doubles after."""
    x = np.log10(lr / at)
    return level - depth * np.clip(1 + x / 3, 0, 1) + level * np.clip(x, 0, None)


def test_the_post_reads_its_fastai_maximum_off_the_untrimmed_curve():
    lr = ramp()
    loss = np.full(100, 3.0)
    loss[50:] = 2.0  # smoothed, the lowest is the last
    found = replay("blog_fastai", lr, loss)
    assert found.max_lr == lr[99] / 10
    assert replay("fastai1", lr, loss).max_lr == pytest.approx(lr[94] / 10)
    assert found.min_lr == lr[50]  # the steepest step of the average is the first of the fall


@pytest.mark.parametrize("rule", ["blog_fastai", "blog_keras", "fastai1", "torch_lr_finder"])
def test_the_stopping_loss_is_recorded_and_nothing_after_it(rule):
    lr = ramp(rule)
    loss = v_curve(lr, at=1.0)
    loss[-10] = 1e4
    found = replay(rule, lr, loss)
    assert found.stop_step == len(lr) - 10
    altered = loss.copy()
    altered[-9:] = -1e9
    assert replay(rule, lr, altered) == found


def test_keras_stops_at_3_467_times_the_best():
    lr = ramp("blog_keras")
    # A smoothed loss of 1, then one of exactly ``level``: raw losses that give it.
    for level, stops in ((3.4666, False), (3.4667, True)):
        smoothed = np.ones(97)
        smoothed[60:] = level
        counts = 1 - 0.98 ** np.arange(98)
        loss = (smoothed * counts[1:] - 0.98 * np.append(0, smoothed[:-1]) * counts[:-1]) / 0.02
        assert (replay("blog_keras", lr, loss).stop_step == 60) == stops


def test_keras_answers_with_the_steepest_descent_where_it_is_two_decades_off():
    lr = ramp("blog_keras")
    step = np.arange(97)
    # Smoothed loss: rises a little, falls fast once, then slowly to its minimum.
    smoothed = 3 + 0.001 * step
    smoothed[30:] = 2.5 - 0.001 * step[30:]
    smoothed[85:] += 0.1 * (step[85:] - 84)
    counts = 1 - 0.98 ** np.arange(98)
    loss = (smoothed * counts[1:] - 0.98 * np.append(0, smoothed[:-1]) * counts[:-1]) / 0.02
    found = replay("blog_keras", lr, loss)
    assert not found.fallback
    assert found.min_lr == lr[30]  # the greatest fall over two steps is from 29 to 31
    assert found.max_lr == lr[np.abs(lr - lr[84] / 10).argmin()]


def test_keras_falls_back_on_a_tenth_of_the_maximum():
    lr = ramp("blog_keras")
    loss = 3 - 0.01 * np.arange(97)  # an unbroken descent counts as none
    found = replay("blog_keras", lr, loss)
    assert found.fallback
    assert found.max_lr == lr[np.abs(lr - lr[95] / 10).argmin()]
    assert found.min_lr == lr[np.abs(lr - found.max_lr / 10).argmin()]


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule in globals()])
def test_on_nan(rule):
    """Those that stop at NaN say so; the others go on to the end of the test."""
    lr = ramp(rule)
    loss = v_curve(lr, at=10.0)
    loss[70:] = np.nan
    found = replay(rule, lr, loss)
    stops = rule in ("blog_fastai", "fastai1", "keras_lr_finder", "ultralytics_auto")
    assert found.stop_step == (70 if stops else None)
    assert bool(found.reason) == (rule == "ultralytics_auto")


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_takes_an_early_end_for_a_descent(rule):
    """What a test left out when it ended is infinite; no rate past its end is an answer."""
    lr = ramp(rule)
    loss = v_curve(lr, at=1e-2)
    loss[70:] = np.inf
    found = replay(rule, lr, loss)
    assert all(one is None or one <= lr[70] for one in (found.min_lr, found.max_lr))


@pytest.mark.parametrize("rule", ["blog_keras", "blog_fastai"])
@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (np.linspace(3, 2, 6), "too few steps: 6"),
        (np.array([3.0, np.nan]), "too few steps: "),
        (np.array([1.0]), "too few steps: 1"),
        (np.full(97, 2.3), "no minimum"),
        (np.linspace(2, 3, 97), "no minimum"),
        (np.full(97, np.inf), "no loss it looks at is finite"),
    ],
)
def test_the_posts_rules_abstain_with_a_reason(rule, loss, reason):
    found = replay(rule, ramp(rule, len(loss)), loss)
    assert (found.min_lr, found.max_lr, found.fallback) == (None, None, False)
    assert found.reason.startswith(reason)


# ---------------------------------------------------------------------------------------------
# What holds for any curve

any_floats = st.floats(allow_nan=True, allow_infinity=True)
losses = st.lists(st.one_of(any_floats, st.floats(-5, 5), st.just(1.0)), min_size=1, max_size=60)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=40, deadline=None)
@given(loss=losses, data=st.data())
def test_any_curve_gives_a_suggestion_or_a_reason(rule, loss, data):
    size = len(loss)
    rates = st.one_of(
        st.just(ramp(rule, size).tolist()), st.lists(any_floats, min_size=size, max_size=size)
    )
    lr, loss = np.array(data.draw(rates)), np.array(loss)
    before = lr.copy(), loss.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = replay(rule, lr, loss)
    np.testing.assert_array_equal(lr, before[0])
    np.testing.assert_array_equal(loss, before[1])
    assert bool(found.reason) == (found.min_lr is None and found.max_lr is None)
    assert found.stop_step is None or 0 <= found.stop_step < size
    assert not (found.fallback and found.reason)
    for value in (found.min_lr, found.max_lr):
        assert value is None or type(value) is float
    assert repr(found) == repr(replay(rule, lr, loss))  # NaN of rates that are no rates is the same


@pytest.mark.parametrize("rule", RULES)
def test_a_suggestion_does_not_depend_on_the_losss_unit(rule):
    lr = ramp(rule)
    changed = 0
    for seed in range(60):
        loss = random_loss(lr, seed)
        # By a power of two, so that no rounding differs.
        changed += replay(rule, lr, loss) != replay(rule, lr, 8 * loss)
    assert (changed > 0) == (rule == "fastai_slide")  # its threshold is in units of the loss


#: Those whose answer has a bound or is rounded, or that take logarithms, which round.
OF_THE_LRS_UNIT = {
    "edge",
    "fastai_jl",
    "fastai_steep",
    "neuralprophet_mean",
    "torchtuples",
    "ultralytics_auto",
}


@pytest.mark.parametrize("rule", sorted(set(RULES) - OF_THE_LRS_UNIT))
def test_a_suggestion_follows_the_unit_of_the_lr(rule):
    lr = ramp(rule)
    for seed in range(30):
        loss = random_loss(lr, seed)
        found, scaled = replay(rule, lr, loss), replay(rule, 4 * lr, loss)
        for name in ("min_lr", "max_lr"):
            value = getattr(found, name)
            expected = None if value is None else pytest.approx(4 * value, rel=1e-12)
            assert getattr(scaled, name) == expected


def test_an_unknown_rule_is_named_with_those_that_exist():
    with pytest.raises(InputError, match="rule: expected one of: .*blog_fastai.*, got 'steepest'"):
        replay("steepest", np.ones(1), np.ones(1))
    with pytest.raises(InputError, match="got 'egde'; did you mean edge"):
        replay("egde", np.ones(1), np.ones(1))


# ---------------------------------------------------------------------------------------------
# Smith's rule, which reads the accuracy

STEADY = np.linspace(0.0, 0.02, 21)  # a linear ramp


def test_smith_where_the_accuracy_rises_from_the_first_step_and_gets_rough():
    """As in the paper's figure: the rise begins at once, and is rough after a while."""
    accuracy = 0.1 + 0.4 * np.sqrt(np.arange(21) / 20)
    accuracy[8:] += np.resize([-0.15, 0.0, 0.1], 13)
    found = smith.suggest(STEADY, accuracy)
    assert (found.min_lr, found.max_lr) == (0.0, STEADY[7])


def test_smith_where_the_accuracy_slows_or_falls():
    slows = 0.1 + 0.8 * np.clip((np.arange(21) - 4) / 8, 0, 1)  # nine tenths: by step 12
    assert smith.suggest(STEADY, slows) == Suggestion(STEADY[4], STEADY[12])
    falls = np.where(np.arange(21) < 10, slows, 0.1)  # never gets further than step 9
    assert smith.suggest(STEADY, falls) == Suggestion(STEADY[4], STEADY[9])
    halting = slows.copy()
    halting[8:11] = slows[8:11] - 0.2  # more than a tenth of the rise
    assert smith.suggest(STEADY, halting).max_lr == STEADY[7]


@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [
        ([0.1], "too few accuracies: 1"),
        ([np.nan, 0.1, np.inf, 0.5], "too few accuracies: 2"),
        ([0.1] * 9, "the accuracy rises by 0.0 points"),
        ([0.1, 0.14, 0.12], "the accuracy rises by 4.0 points"),
        ([0.9, 0.5, 0.1], "the accuracy rises by 0.0 points"),
    ],
)
def test_smith_abstains_with_a_reason(accuracy, reason):
    found = smith.suggest(np.arange(len(accuracy)) / 100, np.array(accuracy))
    assert (found.min_lr, found.max_lr) == (None, None) and found.reason.startswith(reason)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=1, max_size=60))
def test_smith_gives_a_range_or_a_reason_on_any_accuracies(accuracy):
    accuracy, lr = np.array(accuracy), np.linspace(1e-3, 1.0, len(accuracy))
    before = accuracy.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = smith.suggest(lr, accuracy)
    np.testing.assert_array_equal(accuracy, before)
    if found.reason:
        assert (found.min_lr, found.max_lr) == (None, None)
    else:
        assert found.min_lr in lr and found.max_lr in lr and found.min_lr < found.max_lr
