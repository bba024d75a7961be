"""Each optimiser is what its framework does itself, and the same in both; what a key has of it."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from test_backends import SMALL, both, continued, digits_like, network
from test_runs import make_spec

from lrrt import plugins
from lrrt.config import from_mapping
from lrrt.config.validation import validate_protocol
from lrrt.core.protocol import Protocol, WeightDecay
from lrrt.errors import InputError

DECOUPLED = WeightDecay("decoupled", 0.1)
ADAM = Protocol(optimizer="adam", beta1=0.8, beta2=0.99, epsilon=1e-3)
PROTOCOLS = {
    "sgd": Protocol(weight_decay=DECOUPLED),
    "sgd lr_inside": Protocol(momentum_form="lr_inside"),
    "adam": ADAM,
    "adam epsilon_hat": dataclasses.replace(ADAM, epsilon_hat=True),
    "adamw": dataclasses.replace(ADAM, optimizer="adamw", weight_decay=DECOUPLED),
    "adamw epsilon_hat": dataclasses.replace(
        ADAM, optimizer="adamw", weight_decay=DECOUPLED, epsilon_hat=True
    ),
}
LRS = np.geomspace(1e-4, 0.3, 30)
START = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
GRADIENTS = np.random.default_rng(1).standard_normal((30, 5, 3)).astype(np.float32)
# Which of the protocols each framework has itself; Keras's SGD has no decoupled decay.
OWN = {
    "torch": ["sgd", "adam", "adamw"],
    "keras": ["sgd lr_inside", "adam epsilon_hat", "adamw epsilon_hat"],
}


def ours_in_torch(backend: str, protocol: Protocol, of_device: bool) -> np.ndarray:
    import torch

    parameters = {"w": torch.tensor(START)}
    package = f"lrrt.backends.{backend}.optimizers"
    optimizer = plugins.find(package, protocol.optimizer, "").start(parameters, protocol)
    found = []
    for gradient, lr in zip(GRADIENTS, LRS, strict=True):
        lr = torch.tensor(lr, dtype=torch.float32) if of_device else float(lr)
        optimizer.update([torch.tensor(gradient)], lr)
        found.append(parameters["w"].numpy().copy())
    return np.array(found)


def theirs_in_torch(_: str, protocol: Protocol) -> np.ndarray:
    import torch

    weight = torch.tensor(START, requires_grad=True)
    decay = protocol.weight_decay.value
    if protocol.optimizer == "sgd":  # whose decay is a penalty's: decoupled by hand below
        optimizer = torch.optim.SGD([weight], momentum=protocol.momentum)
    else:
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        optimizer = kinds[protocol.optimizer](
            [weight],
            betas=(protocol.beta1, protocol.beta2),
            eps=protocol.epsilon,
            weight_decay=decay,
        )
    found = []
    for gradient, lr in zip(GRADIENTS, LRS, strict=True):
        optimizer.param_groups[0]["lr"] = float(lr)
        weight.grad = torch.tensor(gradient)
        if protocol.optimizer == "sgd":
            weight.data.mul_(1 - float(lr) * decay)
        optimizer.step()
        found.append(weight.detach().numpy().copy())
    return np.array(found)


def ours_in_keras(backend: str, protocol: Protocol) -> np.ndarray:
    from lrrt.backends.keras import tf, use_threads

    use_threads(1)  # before TensorFlow begins: the networks of this process need it so
    weight, found = tf.Variable(START), []
    package = f"lrrt.backends.{backend}.optimizers"
    optimizer = plugins.find(package, protocol.optimizer, "").start({"w": weight}, protocol)
    for gradient, lr in zip(GRADIENTS, LRS, strict=True):
        optimizer.update([tf.constant(gradient)], tf.constant(lr, tf.float32))
        found.append(weight.numpy())
    return np.array(found)


def theirs_in_keras(_: str, protocol: Protocol) -> np.ndarray:
    from lrrt.backends.keras import keras, tf, use_threads

    use_threads(1)
    weight, found = keras.Variable(START), []
    adam = dict(beta_1=protocol.beta1, beta_2=protocol.beta2, epsilon=protocol.epsilon)
    optimizer = {
        "sgd": lambda: keras.optimizers.SGD(momentum=protocol.momentum),
        "adam": lambda: keras.optimizers.Adam(**adam),
        "adamw": lambda: keras.optimizers.AdamW(weight_decay=protocol.weight_decay.value, **adam),
    }[protocol.optimizer]()
    for gradient, lr in zip(GRADIENTS, LRS, strict=True):
        optimizer.learning_rate = float(lr)
        optimizer.apply([tf.constant(gradient)], [weight])
        found.append(weight.numpy())
    return np.array(found)


# float32: Keras's first corrections, in float32, have four right digits.
@pytest.mark.parametrize(
    ("backend", "name"), [(backend, name) for backend in OWN for name in OWN[backend]]
)
def test_each_is_what_its_framework_does_itself(run, backend, name):
    if backend == "torch":
        theirs = run(backend, theirs_in_torch, PROTOCOLS[name])
        for of_device in (False, True):
            ours = run(backend, ours_in_torch, PROTOCOLS[name], of_device)
            assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    else:
        ours, theirs = (run(backend, f, PROTOCOLS[name]) for f in (ours_in_keras, theirs_in_keras))
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    moved = np.abs(theirs[-1] - START)
    assert moved.min() > 0.001


@pytest.mark.parametrize("name", PROTOCOLS)
def test_both_backends_update_alike(run, name):
    ours = run("torch", ours_in_torch, PROTOCOLS[name], False)
    assert ours == pytest.approx(run("keras", ours_in_keras, PROTOCOLS[name]), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_networks_train_alike_on_both_backends(run, name):
    protocol = dataclasses.replace(PROTOCOLS[name], gradient_clip=1.0)
    one, two = both(run, SMALL, protocol, np.geomspace(1e-4, 1e-2, 12))
    assert one[0] == pytest.approx(two[0], rel=1e-4)
    for array in one[1]:
        assert one[1][array] == pytest.approx(two[1][array], rel=1e-3, abs=1e-4), array


@pytest.mark.parametrize("backend", ["torch", "keras"])
def test_a_restored_optimizer_goes_on_to_the_same_bits(run, backend):
    found = run(backend, continued, dataclasses.replace(ADAM, augmentation="none"))
    assert all(one == other for one, other in found["taken"])
    one, other = found["states"]
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert one["adam.count"] == 6


def test_a_key_has_what_the_optimizer_reads():
    def key(**changes) -> str:
        base = make_spec()
        return dataclasses.replace(base, protocol=dataclasses.replace(base.protocol, **changes)).key

    assert key() == key(beta1=0.5, beta2=0.5, epsilon=1.0, epsilon_hat=True)
    assert key(optimizer="adam") == key(optimizer="adam", momentum=0.5, momentum_form="lr_inside")
    changes = [{}, {"beta1": 0.5}, {"beta2": 0.5}, {"epsilon": 1.0}, {"epsilon_hat": True}]
    keys = {key(optimizer="adam", **change) for change in changes}
    assert len(keys | {key(), key(optimizer="adamw")}) == len(changes) + 2


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"optimizer": "adan"}, "p.optimizer", "adam, adamw"),
        ({"optimizer": "adam", "weight_decay": DECOUPLED}, "p.weight_decay.kind", "none or l2"),
        ({"optimizer": "adamw"}, "p.weight_decay.kind", "decoupled with p.optimizer = adamw"),
        ({"beta1": 1.0}, "p.beta1", "from 0 to 0.9999"),
        ({"beta2": -0.1}, "p.beta2", "from 0"),
        ({"epsilon": 0.0}, "p.epsilon", "from 1e-16 to 1"),
    ],
)
def test_impossible_optimizers_are_refused(changes, key, words):
    with pytest.raises(InputError) as caught:
        validate_protocol("p", Protocol(**changes))
    assert caught.value.key == key and words in str(caught.value)


@pytest.mark.parametrize("name", plugins.names("lrrt.core.optimizers"))
def test_every_optimizer_has_a_backend(name):
    backends = Path(find_spec("lrrt").origin).parent / "backends"
    assert any((backends / b / "optimizers" / f"{name}.py").exists() for b in OWN)
    module = plugins.find("lrrt.core.optimizers", name, "")
    assert set(module.READS) <= {field.name for field in dataclasses.fields(Protocol)}


# --- of libraries

LIBRARIES = {
    "prodigy": ("prodigyopt", "Prodigy", {}),
    "dadapt_adam": ("dadaptation", "DAdaptAdam", {"decouple": True}),
    "schedule_free": ("schedulefree", "AdamWScheduleFree", {}),
}


def theirs_by_hand(_: str, name: str) -> np.ndarray:
    import torch

    library, kind, options = LIBRARIES[name]
    weight = torch.tensor(START, requires_grad=True)
    options = {"lr": 1.0, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1} | options
    optimizer = getattr(__import__(library), kind)([weight], **options)
    if name == "schedule_free":
        optimizer.train()
    found = []
    for gradient, lr in zip(GRADIENTS, LRS, strict=True):
        optimizer.param_groups[0]["lr"] = float(lr)
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        found.append(weight.detach().numpy().copy())
    return np.array(found)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_librarys_optimizer_is_the_librarys(run, name):
    pytest.importorskip(LIBRARIES[name][0])
    protocol = Protocol(optimizer=name, beta2=0.99, weight_decay=DECOUPLED)
    ours = run("torch", ours_in_torch, protocol, False)
    assert np.array_equal(ours, run("torch", theirs_by_hand, name))
    found = run("torch", continued, dataclasses.replace(protocol, augmentation="none"))
    assert all(one == other for one, other in found["taken"])


def averaged(_: str) -> tuple[float, float, float]:
    """Loss as evaluated, loss where the average has been put, what the weights have moved by it."""
    made = network("torch", SMALL, Protocol(optimizer="schedule_free"))
    images, labels = digits_like(64)
    x = (images / np.float32(255)).astype(np.float32)
    for _ in range(3):
        made.step(x, labels, 0.03)
    before, loss, after = made.export(), made.evaluate(x, labels)[0], made.export()
    moved = max(np.abs(before[name] - after[name]).max() for name in before)
    with made.optimizer.evaluation():
        return loss, made.evaluate(x, labels)[0], moved


def test_a_schedule_free_network_is_evaluated_at_its_average(run):
    pytest.importorskip("schedulefree")
    loss, again, moved = run("torch", averaged)
    assert loss == pytest.approx(again, rel=1e-5) and moved < 1e-6


def test_an_optimizer_of_one_backend_is_refused_on_the_other():
    values = {"study": {"backends": ["keras"], "protocols": ["p"], "sweeps": ["s"]}}
    values |= {"protocols": {"p": {"optimizer": "prodigy"}}, "sweeps": {"s": {}}}
    with pytest.raises(InputError, match="expected torch with protocols.p.optimizer = prodigy"):
        from_mapping(values | {"divergence": {"cases": []}})
