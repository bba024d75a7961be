"""The one-step instability search: on a quadratic its answer is known exactly."""

import math

import numpy as np
import pytest

import lrrt
from lrrt.backends import Step
from lrrt.core.instability import of_network, search


@pytest.mark.parametrize("curvature", [0.02, 1.0, 37.0])
def test_on_a_quadratic_it_is_two_over_the_curvature(curvature):
    """From w, one step gives (1 - lr c) w: the loss rises exactly where lr > 2 / c."""

    def losses(lr):
        return curvature / 2, curvature / 2 * (1 - lr * curvature) ** 2

    found = search(losses, 1e-6, 1e3, halvings=12)
    assert found == pytest.approx(2 / curvature, rel=1e-3)


def test_what_it_makes_of_no_edge_and_of_a_loss_that_is_not_finite():
    assert search(lambda lr: (1.0, 0.5), 1e-6, 1e3, 4) is None
    assert search(lambda lr: (1.0, 1.0 + 1e-9), 1e-6, 1e3, 4) is None  # rounding
    assert search(lambda lr: (1.0, 2.0), 1e-6, 1e3, 4) is None
    seen = []

    def explodes(lr):
        seen.append(lr)
        return 1.0, 0.5 if lr < 0.1 else math.nan

    assert search(explodes, 1e-6, 1e3, 4) == pytest.approx(0.1, rel=0.05)
    assert len(seen) == 18 + 4  # 1e-6 doubled 17 times is 0.13
    assert search(lambda lr: (-5.0, -6.0 if lr < 1 else -4.0), 1e-3, 10, 6) == pytest.approx(
        1, rel=0.02
    )  # a loss below zero


class Quadratic:
    """A backend's network with one weight."""

    def __init__(self, curvature):
        self.weight, self.curvature = 1.0, curvature

    def state(self):
        return {"weight": np.array(self.weight)}

    def restore(self, state):
        self.weight = float(state["weight"])

    def step(self, images, labels, lr):
        loss = self.curvature / 2 * self.weight**2
        self.weight -= lr * self.curvature * self.weight
        return Step(loss, 0.0, math.nan)


def test_a_network_is_as_it_was():
    network = Quadratic(8.0)
    assert of_network(network, None, None, halvings=10) == pytest.approx(0.25, rel=1e-3)
    assert network.weight == 1.0


def test_a_run_of_the_study():
    """The loss of its first batch falls in one step just below the rate, and rises just above."""
    pytest.importorskip("torch")
    from lrrt.core.networks import resnet
    from lrrt.core.protocol import Protocol
    from lrrt.datasets import Dataset
    from lrrt.runs import execute
    from lrrt.runs.spec import RunSpec

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, 60)
    colours = (images / 255).mean(axis=(0, 1, 2)), (images / 255).std(axis=(0, 1, 2))
    dataset = Dataset(images, labels, images, labels, *colours, tuple("0123456789"), "random")
    spec = RunSpec(
        kind="instability",
        backend="torch",
        protocol=Protocol(),
        model=resnet.Model(depth=8, width=8),
        data_digest=dataset.digest,
        weights_seed=0,
        order_seed=0,
        batch_size=16,
        steps=1,
    )
    (edge,) = execute.execute(spec, dataset).arrays["lr"]
    batch = execute.Batches(spec, dataset).train(0)
    risen = {}
    for factor in (0.9, 1.1):
        network = execute._network(spec, dataset)
        first, second = (network.step(*batch, factor * edge) for _ in range(2))
        risen[factor] = second.loss + second.penalty > first.loss + first.penalty
    assert risen == {0.9: False, 1.1: True}


@pytest.fixture
def linear():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1, bias=False)
    x, y = torch.randn(64, 3), torch.randn(64, 1)
    return torch, model, x, y


def test_a_live_model(linear):
    """Least squares: along the first step's direction g the loss is exactly quadratic, so that it
    rises beyond 2 g'g / g'Hg."""
    torch, model, x, y = linear
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = model.weight.detach().clone()
    state, random = optimizer.state_dict(), torch.get_rng_state()
    found = lrrt.instability_lr(model, torch.nn.MSELoss(), [(x, y)], optimizer, halvings=10)
    with torch.no_grad():
        g = (2 / 64 * (x @ before.T - y).T @ x).flatten()
        hessian = 2 / 64 * x.T @ x
        edge = float(2 * (g @ g) / (g @ hessian @ g))
    assert found == pytest.approx(edge, rel=2e-3)
    assert torch.equal(model.weight, before) and optimizer.state_dict() == state
    assert torch.equal(torch.get_rng_state(), random)


def test_dropout_is_the_same_in_both_losses_of_a_trial(linear):
    """With other masks the loss would rise by chance at the lowest rates."""
    torch, model, x, y = linear
    noisy = torch.nn.Sequential(torch.nn.Dropout(0.5), model)
    optimizer = torch.optim.SGD(noisy.parameters(), lr=0.1)
    loss = torch.nn.MSELoss()
    found = [lrrt.instability_lr(noisy, loss, [(x, y)], optimizer) for _ in range(2)]
    assert found[0] == found[1] and found[0] > 1e-2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"start": 0}, "start: expected a number above 0"),
        ({"end": 1e-7}, "end: expected a number above start"),
        ({"halvings": -1}, "halvings: expected an integer of at least 0"),
    ],
)
def test_bad_input(linear, option, message):
    torch, model, x, y = linear
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(lrrt.InputError, match=message):
        lrrt.instability_lr(model, torch.nn.MSELoss(), [(x, y)], optimizer, **option)
