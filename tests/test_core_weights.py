"""The network as data, and its initial weights: counts, laws, streams."""

import numpy as np
import pytest

from lrrt.core import weights
from lrrt.core.network import parameters
from lrrt.core.networks import resnet
from lrrt.core.random_streams import stream
from lrrt.errors import InputError


def network(depth=8, width=16):
    return resnet.nodes(resnet.Model(depth=depth, width=width), shape=(32, 32, 3), classes=10)


def count(nodes, without=" "):
    return sum(
        np.prod(p.shape, dtype=int)
        for p in parameters(nodes)
        if p.trained and without not in p.name
    )


def test_resnet_56_has_the_known_number_of_parameters():
    # 853,018 is the network with shortcuts that have no parameters; the post's two 1x1
    # convolutions add 16 * 32 + 32 * 64.
    assert count(network(56), without="shortcut") == 853_018
    assert count(network(56)) == 853_018 + 2_560


def test_resnet_shapes():
    nodes = network(20)
    operations = [node.operation for node in nodes]
    assert operations.count("conv") == 19 + 2  # depth less the dense layer, and the shortcuts
    assert operations.count("batch_norm") == 19
    assert operations.count("add") == 9
    strided = [node.name for node in nodes if node.stride == 2]
    assert strided == [
        "stage2_block1_conv1",
        "stage2_block1_shortcut",
        "stage3_block1_conv1",
        "stage3_block1_shortcut",
    ]
    assert [(n.in_channels, n.channels) for n in nodes if n.operation == "dense"] == [(64, 10)]


@pytest.mark.parametrize("depth", [8, 20, 56])
def test_every_input_of_a_node_is_made_before_it(depth):
    channels = {"input": 3}
    for node in network(depth):
        assert node.name not in channels
        inputs = {channels[name] for name in node.inputs}
        assert inputs == {node.in_channels or node.channels}
        channels[node.name] = node.channels


@pytest.mark.parametrize("changes", [{"depth": 10}, {"depth": 2}, {"depth": 7}, {"width": 0}])
def test_resnet_rejects_impossible_sizes(changes):
    with pytest.raises(InputError, match=f"model.{next(iter(changes))}"):
        network(**changes)


@pytest.mark.parametrize(
    ("scheme", "deviation", "bound"),
    [
        # Kernel 3x3 of 32 to 64 channels: fan_in 288, fan_out 576.
        ("he_uniform", np.sqrt(2 / 288), np.sqrt(6 / 288)),
        ("he_normal", np.sqrt(2 / 288), np.inf),
        ("glorot_uniform", np.sqrt(2 / 864), np.sqrt(6 / 864)),
        ("keras_default", np.sqrt(2 / 864), np.sqrt(6 / 864)),
        ("torch_default", np.sqrt(1 / 3 / 288), np.sqrt(1 / 288)),
    ],
)
def test_kernels_follow_their_law(scheme, deviation, bound):
    kernel = weights.draw(network(), scheme, "zero", 0)["stage3_block1_conv1.kernel"]
    assert kernel.dtype == np.float32 and kernel.shape == (3, 3, 32, 64)
    # 18,432 draws: the deviation of a uniform law is known to 0.3 %, of a normal one to 0.5 %.
    assert kernel.std() == pytest.approx(deviation, rel=0.03)
    assert abs(kernel.mean()) < 4 * deviation / np.sqrt(kernel.size)
    assert np.abs(kernel).max() <= np.float32(bound)
    if np.isfinite(bound):
        assert np.abs(kernel).max() > 0.99 * bound


def test_normal_law_is_not_truncated():
    kernel = weights.draw(network(), "he_normal", "zero", 0)["stage3_block1_conv2.kernel"]
    beyond = np.mean(np.abs(kernel) > 2 * np.sqrt(2 / 576))
    assert beyond == pytest.approx(0.0455, abs=0.005)


@pytest.mark.parametrize(
    ("scheme", "dense_bias", "uniform"),
    [
        ("he_uniform", "zero", False),
        ("he_uniform", "uniform", True),
        ("keras_default", "uniform", False),
        ("torch_default", "zero", True),
    ],
)
def test_dense_bias(scheme, dense_bias, uniform):
    bias = weights.draw(network(), scheme, dense_bias, 0)["dense.bias"]
    assert bias.any() == uniform
    assert np.abs(bias).max() <= 1 / 8


def test_batch_norm_starts_as_the_identity():
    drawn = weights.draw(network(), "he_uniform", "zero", 0)
    expected = {"scale": 1, "offset": 0, "mean": 0, "variance": 1}
    for kind, value in expected.items():
        assert (drawn[f"stem_norm.{kind}"] == value).all()


def test_all_parameters_are_drawn_and_no_other():
    nodes = network()
    drawn = weights.draw(nodes, "he_uniform", "zero", 0)
    assert {n: a.shape for n, a in drawn.items()} == {p.name: p.shape for p in parameters(nodes)}


def test_streams_do_not_depend_on_other_layers():
    small = weights.draw(network(8), "he_uniform", "uniform", 3)
    large = weights.draw(network(20), "he_uniform", "uniform", 3)
    for name, array in small.items():
        np.testing.assert_array_equal(array, large[name])


def test_a_draw_depends_on_seed_and_name_alone():
    first, again = (weights.draw(network(), "he_uniform", "zero", 5) for _ in range(2))
    other = weights.draw(network(), "he_uniform", "zero", 6)
    kernels = [name for name in first if name.endswith("kernel")]
    for name in kernels:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).mean() > 0.99
    # Kernels of one shape differ from each other.
    one, two = first["stage1_block1_conv1.kernel"], first["stage1_block1_conv2.kernel"]
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.1


def test_stream_is_pinned():
    # Published curves name seeds: the same seed must give these numbers for ever.
    drawn = stream(0, "weights stem_conv.kernel").random(2)
    assert drawn.tolist() == [
        0.35849194504556325,
        0.6699066234315723,
    ]
    first, second = (stream(2**62 + i, "order 0").integers(2**31) for i in range(2))
    assert first != second


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("lecun", "zero", 0), "weights"),
        (("he_uniform", "one", 0), "dense_bias"),
        (("he_uniform", "zero", -1), "weights_seed"),
    ],
)
def test_draw_names_what_is_wrong(arguments, key):
    with pytest.raises(InputError, match=f"^{key}: "):
        weights.draw(network(), *arguments)
