"""Networks beside the ResNet: the same on both backends, their own parameters, what is refused."""

import dataclasses

import numpy as np
import pytest
import yaml
from test_backends import both, network, relative
from test_config import compose
from test_runs import make_spec

from lrrt import plugins
from lrrt.config import DataSection, from_mapping
from lrrt.core import networks, weights
from lrrt.core.dropout import Masks
from lrrt.core.network import Node, fold, parameters
from lrrt.core.networks import NETWORKS, cnn, mlp, resnet, torchvision, transformer
from lrrt.core.protocol import Protocol, Ramp
from lrrt.datasets import Dataset, load, open_dataset, save
from lrrt.datasets import text as text_data
from lrrt.errors import InputError
from lrrt.report.figures.samples import picture
from lrrt.runs.execute import execute
from lrrt.runs.store import Store

PLAIN = Protocol(augmentation="none", flip=False, ramp=Ramp(1e-4, 0.1, steps=10))
IMAGES = {
    "mlp": mlp.Model(depth=2, width=24),
    "no hidden layer": mlp.Model(depth=0),
    "cnn": cnn.Model(width=8),
    "cnn without batch norm": cnn.Model(width=8, batch_norm=False),
    "resnet without batch norm": resnet.Model(width=8, batch_norm=False),
}


@pytest.mark.parametrize("name", IMAGES)
def test_both_backends_train_alike(run, name):
    nodes = networks.module_of(IMAGES[name]).nodes(IMAGES[name], (32, 32, 3), 10)
    one, two = both(run, nodes, PLAIN, np.geomspace(1e-4, 3e-3, 8))
    assert one[0] == pytest.approx(two[0], rel=1e-4)
    assert one[0][-1, 0] != pytest.approx(one[0][0, 0], rel=1e-3)
    for array in one[1]:
        assert relative(one[1][array], two[1][array]) < 1e-3, array
    assert np.array(one[2]) == pytest.approx(np.array(two[2]), rel=1e-3)


TOKENS = transformer.nodes(transformer.Model(depth=2, width=16, heads=2), (12,), 7)


def of_tokens(backend: str, batch: int) -> tuple[np.ndarray, dict, tuple[float, float]]:
    """Steps on random tokens, arrays, an evaluation."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, 7, (40, 13)).astype(np.int32)
    made = network(backend, TOKENS, dataclasses.replace(PLAIN, optimizer="adam"))
    steps = []
    for i in range(0, 40, batch):
        part = tokens[i : i + batch]
        steps.append(made.step(part[:, :-1], part[:, 1:].astype(np.int64), 0.01))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].astype(np.int64)
    return np.array(steps), made.export(), made.evaluate(inputs, targets)


def test_a_transformer_trains_alike_on_both_backends(run):
    one, two = (run(backend, of_tokens, 8) for backend in ("torch", "keras"))
    assert one[0] == pytest.approx(two[0], rel=1e-4)
    for array in one[1]:
        if not array.endswith("key.bias"):  # it moves no score: its gradient is rounding
            assert relative(one[1][array], two[1][array]) < 1e-3, array
    assert one[2] == pytest.approx(two[2], rel=1e-4)


def logits_of(_: str, nodes: list[Node], inputs: np.ndarray) -> np.ndarray:
    import torch

    from lrrt.backends.torch.forward import running_statistics

    made = network("torch", nodes, PLAIN)
    with torch.no_grad():
        return made._logits(inputs, running_statistics).numpy()


def test_a_token_is_predicted_from_those_before_it_alone(run):
    tokens = np.random.default_rng(1).integers(0, 7, (3, 12)).astype(np.int32)
    other = tokens.copy()
    other[:, 8:] = (other[:, 8:] + 1) % 7
    one, two = (run("torch", logits_of, TOKENS, t) for t in (tokens, other))
    assert np.array_equal(one[:, :8], two[:, :8]) and not np.allclose(one[:, 8:], two[:, 8:])
    assert one.shape == (3, 12, 7)


def test_an_mlp_is_what_numpy_says(run):
    """Flat in the order of rows, columns, channels, on any backend."""
    nodes = mlp.nodes(mlp.Model(depth=1, width=5), (4, 4, 3), 2)
    drawn = weights.draw(nodes, PLAIN.weights, PLAIN.dense_bias, 3)
    images = np.random.default_rng(0).standard_normal((6, 4, 4, 3)).astype(np.float32)
    hidden = images.reshape(6, 48) @ drawn["dense1.kernel"] + drawn["dense1.bias"]
    expected = np.maximum(hidden, 0) @ drawn["dense.kernel"] + drawn["dense.bias"]
    assert run("torch", logits_of, nodes, images) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_batch_norm_after_a_convolution_with_a_bias_stays():
    nodes = [Node("conv", "conv", ("input",), 8, 8, bias=True)]
    nodes.append(Node("norm", "batch_norm", ("conv",), 8, 8))
    arrays = {p.name: np.ones(p.shape, np.float32) for p in parameters(nodes)}
    assert [n.operation for n in fold(nodes, arrays, 1e-3)[0]] == ["conv", "batch_norm"]


# --- parameters and keys


def test_a_network_has_its_own_parameters():
    def model(**values):
        sections = {"sweeps": {"s": {}}, "protocols": {"p": {}}, "divergence": {"cases": []}}
        return from_mapping({"model": values, "study": STUDY} | sections).model

    assert model() == resnet.Model()
    assert model(name="mlp", width=7) == mlp.Model(width=7)
    assert model(name="cnn", batch_norm=False) == cnn.Model(batch_norm=False)


STUDY = {"backends": ["torch"], "protocols": ["p"], "sweeps": ["s"]}


@pytest.mark.parametrize(
    ("model", "data", "protocol", "message"),
    [
        ({"name": "mlp", "heads": 2}, {}, {}, "model.heads: expected a key of model"),
        ({"name": "vgg"}, {}, {}, "model.name: expected one of: cnn, mlp, resnet"),
        ({"name": "mlp", "depth": -1}, {}, {}, "model.depth: expected a number from 0 to 100"),
        ({"name": "cnn", "depth": 5}, {}, {}, "model.depth: expected a number from 1 to 4"),
        (
            {"name": "resnet", "width": 9},
            {},
            {},
            "model: expected a multiple of 8 channels into each 1x1",
        ),
        ({"name": "transformer"}, {}, {}, "data.name = digits gives no tokens"),
        ({"name": "mlp"}, {"name": "text"}, {}, "data.name = text gives no images"),
        (
            {"name": "transformer", "width": 10},
            {"name": "text"},
            {},
            "model.width: expected a multiple of model.heads = 4, got 10",
        ),
        (
            {"name": "transformer"},
            {"name": "text"},
            {},
            "p.augmentation: expected none, got 'crop'",
        ),
        (
            {"name": "transformer"},
            {"name": "text"},
            {"augmentation": "none"},
            "p.flip: expected false, got True",
        ),
        ({"name": "mlp"}, {"name": "digits8x8"}, {}, "data.train_images: expected at most 1442"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(model, data, protocol, message):
    values = {"model": model, "data": data, "study": STUDY, "sweeps": {"s": {}}}
    values |= {"protocols": {"p": protocol}, "divergence": {"cases": []}}
    with pytest.raises(InputError, match=message):
        from_mapping(values)


def test_keys_of_networks_without_new_parameters_are_as_they_were():
    spec = make_spec()
    assert '"model":{"depth":8,"name":"resnet","width":8}' in spec.to_json()
    other = dataclasses.replace(spec, model=resnet.Model(width=8, batch_norm=False))
    assert other.key != spec.key
    assert '"model":{"depth":2,"name":"mlp","width":64}' in make_spec(model=mlp.Model()).to_json()


@pytest.mark.parametrize("name", plugins.names(NETWORKS))
def test_every_network_composes(name):
    data = {"transformer": "text"}.get(name, "digits")
    protocol = [
        f"protocols.{p}.{k}"
        for p in ("blog_keras", "blog_fastai")
        for k in ("flip=false", "augmentation=none")
    ]
    found = compose(
        f"model={name}", f"data={data}", *protocol, "study.backends=[torch]", "divergence.cases=[]"
    )
    assert from_mapping(found).model == plugins.find(NETWORKS, name, "").Model()
    assert found["model"].keys() == {
        f.name for f in dataclasses.fields(plugins.find(NETWORKS, name, "").Model)
    }


def test_a_depth_of_a_section_needs_a_network_that_has_one(tmp_path):
    values = yaml.safe_load(yaml.safe_dump(compose()))
    values["variance"]["depth"] = 2
    assert from_mapping(values).variance.depth == 2
    assert mlp.Model().of_depth(3) == mlp.Model(depth=3)
    assert mlp.Model().of_depth(None) == mlp.Model()


# --- dropout

DROPPING = {
    "mlp": mlp.Model(depth=2, width=24, dropout=0.5),
    "images": None,  # a convolution's output
}


def dropping(kind: str) -> list[Node]:
    """A network with dropout, of vectors or of images, of the seed 3."""
    if kind == "images":
        found = [
            Node("conv", "conv", ("input",), 8, 3, kernel=3, stride=4),
            Node("relu", "relu", ("conv",), 8),
            Node("drop", "dropout", ("relu",), 8, rate=0.3),
            Node("pool", "global_average_pool", ("drop",), 8),
            Node("dense", "dense", ("pool",), 10, 8),
        ]
    else:
        found = mlp.nodes(DROPPING[kind], (32, 32, 3), 10)
    return [dataclasses.replace(node, seed=3) for node in found]


@pytest.mark.parametrize("kind", DROPPING)
def test_both_backends_drop_the_same(run, kind):
    one, two = both(run, dropping(kind), PLAIN, np.geomspace(1e-4, 3e-3, 8))
    assert one[0] == pytest.approx(two[0], rel=1e-4)
    assert np.array(one[2]) == pytest.approx(np.array(two[2]), rel=1e-3)
    whole = [dataclasses.replace(node, rate=0.0) for node in dropping(kind)]
    plain, _ = both(run, whole, PLAIN, np.geomspace(1e-4, 3e-3, 8))
    assert one[0][0, 0] != pytest.approx(plain[0][0, 0], rel=1e-3)


def resumed(backend: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses of four steps on one batch at rate 0; of the last two again from the state between;
    and of two evaluations."""
    random = np.random.default_rng(0)
    images = random.standard_normal((16, 32, 32, 3)).astype(np.float32)
    labels = random.integers(0, 10, 16)
    made, again = (network(backend, dropping("mlp"), PLAIN) for _ in range(2))
    first = [made.step(images, labels, 0.0).loss for _ in range(2)]
    again.restore(made.state())
    later, repeated = ([n.step(images, labels, 0.0).loss for _ in range(2)] for n in (made, again))
    evaluated = [made.evaluate(images, labels, how)[0] for how in ("batch", "running")]
    return np.array(first + later), np.array(repeated), np.array(evaluated)


@pytest.mark.parametrize("backend", ["torch", "keras"])
def test_masks_are_of_the_step_and_nothing_is_dropped_in_evaluation(run, backend):
    losses, repeated, evaluated = run(backend, resumed)
    assert len(set(losses)) == 4 and np.array_equal(losses[2:], repeated)
    assert evaluated[0] == pytest.approx(evaluated[1], rel=1e-5)
    assert evaluated[0] not in losses


def test_a_mask_keeps_the_mean_and_depends_on_seed_step_and_node():
    masks = Masks([Node(name, "dropout", (), 1, rate=0.25, seed=5) for name in ("a", "b")])
    assert masks.mask("a", (2, 3)).tolist() == np.ones((2, 3)).tolist()
    with masks.drawn():
        one, other = masks.mask("a", (100, 100)), masks.mask("b", (100, 100))
        assert np.array_equal(one, masks.mask("a", (100, 100)))
        assert not np.array_equal(one, other)
        masks.steps = 1
        assert not np.array_equal(one, masks.mask("a", (100, 100)))
    assert set(np.unique(one)) == {np.float32(0), np.float32(4 / 3)}
    assert (one == 0).mean() == pytest.approx(0.25, abs=0.02)


class FirstOnly(Store):
    """Keeps the first checkpoint of a training."""

    def put(self, spec, result) -> None:
        if not self.has(spec.key):
            super().put(spec, result)


def test_a_training_with_dropout_is_of_its_order_and_goes_on_to_the_same_bits(tmp_path):
    data = load(DataSection("digits8x8", train_images=200, test_images=50))
    values = dict(backend="torch", model=mlp.Model(width=16, dropout=0.2), batch_size=20)
    values |= dict(kind="training", lr=0.1, epochs=2, steps=5, protocol=PLAIN)
    spec = make_spec(data.digest, **values)
    assert '"dropout":0.2' in spec.to_json()
    whole = execute(spec, data, store := FirstOnly(tmp_path)).arrays
    assert len(store.get(spec.key).arrays["rows"]) == 1
    again = execute(spec, data, store).arrays
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
    other = dataclasses.replace(spec, order_seed=spec.order_seed + 1)
    assert execute(other, data).arrays["train_loss"][0] != whole["train_loss"][0]
    with pytest.raises(InputError, match="stacked: .*the network is no chain"):
        execute(dataclasses.replace(spec, stacked=True), data)


def test_a_transformer_drops_after_positions_attention_and_mlp():
    nodes = transformer.nodes(transformer.Model(depth=1, dropout=0.1), (12,), 7)
    names = [node.name for node in nodes if node.operation == "dropout"]
    assert names == ["position_dropout", "block1_mix_dropout", "block1_fall_dropout"]
    by_name = {node.name: node for node in nodes}
    assert by_name["block1_norm1"].inputs == ("position_dropout",)
    assert by_name["block1_add1"].inputs == ("block1_mix_dropout", "position_dropout")
    found = execute(
        make_spec(
            (data := text_and_tokens()).digest,
            steps=5,
            backend="torch",
            batch_size=8,
            protocol=PLAIN,
            model=transformer.Model(depth=1, width=16, heads=2, dropout=0.1),
        ),
        data,
    ).arrays
    assert np.isfinite(found["loss"]).all()


# --- data


def test_text_is_of_windows_side_by_side_and_the_same_everywhere(tmp_path):
    data = load(DataSection("text", train_images=50, test_images=10))
    assert data.train_images.shape == data.train_labels.shape == (50, text_data.TOKENS)
    assert np.array_equal(data.train_images.ravel()[1:], data.train_labels.ravel()[:-1])
    assert data.digest == "97e6a3752788858f6bf375156aa9212ff908a02c4b00f59f46f8521f561d738a"
    more = load(DataSection("text", train_images=60, test_images=10))
    assert np.array_equal(more.train_images[:50], data.train_images)
    assert not np.array_equal(data.train_images[:10], data.test_images)
    save(data, tmp_path / "text.safetensors")
    assert open_dataset(tmp_path / "text.safetensors").digest == data.digest
    assert picture(data).startswith(b"\x89PNG")
    used = np.unique(load(DataSection("text", train_images=2000, test_images=10)).train_images)
    assert len(used) == len(text_data.CHARACTERS)


def test_numbers_in_words():
    assert [text_data.number(n) for n in (0, 19, 20, 99, 100, 142)] == [
        "zero",
        "nineteen",
        "twenty",
        "ninety-nine",
        "one hundred",
        "one hundred and forty-two",
    ]


def test_digits_are_scikit_learns_own():
    from sklearn.datasets import load_digits

    data = load(DataSection("digits8x8", train_images=1442, test_images=355))
    source = load_digits()
    theirs = sorted(map(bytes, source.images.astype(np.uint8)))
    ours = [*data.train_images, *data.test_images]
    assert sorted(map(bytes, (np.array(ours) // 15).astype(np.uint8))) == theirs
    assert data.train_images.shape == (1442, 8, 8, 1)
    fewer = load(DataSection("digits8x8", train_images=100, test_images=20))
    assert np.array_equal(fewer.train_images, data.train_images[:100])
    assert set(fewer.test_labels) == set(range(10))


def text_and_tokens() -> Dataset:
    return load(DataSection("text", train_images=40, test_images=8))


def test_tokens_go_through_range_tests_and_trainings():
    data = text_and_tokens()
    model = transformer.Model(depth=1, width=16, heads=2)
    values = dict(backend="torch", model=model, batch_size=8, protocol=PLAIN)
    found = execute(make_spec(data.digest, steps=10, **values), data).arrays
    assert np.log(30) < found["loss"][0] < 2 * np.log(30)  # a guess, and not a sure one
    spec = make_spec(data.digest, kind="training", lr=0.1, epochs=2, steps=5, **values)
    trained = execute(spec, data).arrays
    assert trained["val_loss"][1] < trained["val_loss"][0] and trained["val_accuracy"][1] > 0.1
    cropped = dataclasses.replace(PLAIN, augmentation="crop")
    with pytest.raises(InputError, match="the data are tokens"):
        execute(dataclasses.replace(spec, protocol=cropped), data)


# --- torchvision's


def beside_torchvision(_: str) -> tuple[float, float, float, float]:
    """First loss and gradient norm of a ResNet-18: ours, and its own with the same weights."""
    import torch

    from lrrt.backends.torch import nodes as nodes_of
    from lrrt.backends.torch.layout import laid_out
    from lrrt.backends.torch.torchvision import _torchvision

    nodes = nodes_of(torchvision.Model(), (32, 32, 3), 10)
    drawn = weights.draw(nodes, PLAIN.weights, PLAIN.dense_bias, 0)
    theirs = _torchvision().models.resnet18(num_classes=10)
    arrays = {p.name: laid_out(p, torch.tensor(drawn[p.name])) for p in parameters(nodes)}
    missing, unknown = theirs.load_state_dict(arrays, strict=False)
    assert not unknown and all(name.endswith("num_batches_tracked") for name in missing)
    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype(np.float32)
    labels = np.arange(4)
    made = network("torch", nodes, PLAIN, drawn)
    before = made.export()
    made.evaluate(images, labels, "batch")
    assert all(np.array_equal(before[name], array) for name, array in made.export().items())
    ours = made.step(images, labels, 0.01)
    inputs = torch.tensor(images).permute(0, 3, 1, 2)
    loss = torch.nn.functional.cross_entropy(theirs.train()(inputs), torch.tensor(labels))
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in theirs.parameters()]).norm()
    return ours.loss, loss.item(), ours.grad_norm, norm.item()


def test_a_network_of_torchvision_is_torchvisions(run):
    pytest.importorskip("torch")
    loss, own_loss, norm, own_norm = run("torch", beside_torchvision)
    assert loss == pytest.approx(own_loss, rel=1e-4) and norm == pytest.approx(own_norm, rel=1e-3)


def test_torchvision_is_refused_where_it_cannot_be():
    model = torchvision.Model()
    with pytest.raises(InputError, match="backend: expected torch with model.name = resnet18"):
        execute(make_spec(backend="keras", model=model), Dataset(*IMAGE_DATA))
    with pytest.raises(InputError, match="model.name: expected a name of torchvision's"):
        networks.check(torchvision.Model(name="../x"))


ONE = np.zeros((20, 32, 32, 3), np.uint8), np.arange(20) % 10
IMAGE_DATA = (*ONE, *ONE, np.full(3, 0.5), np.ones(3), tuple("0123456789"), "black")
