"""The range test on live PyTorch models leaves no trace."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch_training import (
    CLASSES,
    FEATURES,
    LOSS,
    Training,
    loader,
    network,
    same,
    sgd,
    tensors,
)

import lrrt
from lrrt.errors import InputError


@pytest.mark.parametrize("amid", [False, True], ids=["before", "amid"])
@pytest.mark.parametrize(
    ("optimizer", "options", "testing"),
    [
        ("sgd", {}, {}),
        ("sgd", {"generator": torch.Generator()}, {"accumulate": 2, "clip_norm": 1.0}),
        ("adamw", {"groups": True}, {"validation": tensors(), "batch_size": 16}),
        ("adamw", {"precision": "scaled"}, {"autocast": torch.bfloat16}),
        ("capturable", {}, {"stop": None, "end": 1e3}),
        ("lbfgs", {}, {"end": 1.0}),
    ],
)
@pytest.mark.filterwarnings("error:Detected call")
def test_training_afterwards_is_the_one_without_it(optimizer, options, testing, amid):
    if "generator" in options:
        options["generator"].manual_seed(3)
    tested = Training(optimizer, **options)
    if "generator" in options:
        options = options | {"generator": torch.Generator().manual_seed(3)}
    untested = Training(optimizer, **options)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    if amid:
        tested.epoch()
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        untested.epoch()
    before = tested.state()
    scaler = tested.scaler if "precision" in options else None
    curve = lrrt.range_test(
        tested.model, LOSS, tested.loader, tested.optimizer, steps=20, scaler=scaler, **testing
    )
    assert len(curve) > 5 and np.isfinite(curve.loss[:5]).all()
    assert same(before, tested.state())
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    after = [tested.epoch(), tested.epoch()]
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    assert after == [untested.epoch(), untested.epoch()]
    assert same(tested.state(), untested.state())


def test_persistent_workers_and_a_loop_that_is_under_way():
    def batches(test):
        torch.manual_seed(0)
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        data, seen = loader(num_workers=1, persistent_workers=True), []
        for index, (x, _) in enumerate(data):
            seen.append(x)
            if test and index == 2:
                lrrt.range_test(model, LOSS, data, optimizer, steps=12)
        return seen + [x for x, _ in data]

    assert same(batches(False), batches(True))


@pytest.mark.parametrize("error", [ValueError("of the loss"), KeyboardInterrupt()])
def test_put_back_after_an_error(error):
    training = Training("adamw")
    training.epoch()
    before, seen = training.state(), []

    def loss(outputs, targets):
        seen.append(1)
        if len(seen) == 7:
            raise error
        return LOSS(outputs, targets)

    with pytest.raises(type(error)):
        lrrt.range_test(training.model, loss, training.loader, training.optimizer)
    assert len(seen) == 7 and same(before, training.state())


class Stateful(nn.Module):
    """State that no state dict holds: counters, a tensor, a generator, buffers of two kinds,
    containers that are bound anew."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(FEATURES, CLASSES))
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("positions", torch.arange(FEATURES).expand(2, -1))
        self.count, self.noise = 0, np.random.default_rng(0)
        self.source = torch.Generator().manual_seed(0)
        self.memory = torch.zeros(CLASSES)
        self.means, self.losses, self.numpy = (torch.zeros(CLASSES),), [0.0], np.int64(3)

    def forward(self, x):
        self.count += 1
        self.numpy = self.numpy + 1
        self.losses = [*self.losses, 1.0]
        self.means = (0.9 * self.means[0] + 1,)
        self.seen = (self.count,)
        self.calls += 1
        self.replaced = self.replaced + 1
        self.last = x
        outputs = x @ self.weight
        self.memory = 0.9 * self.memory + outputs.detach().mean(0)
        noise = self.noise.normal() + torch.randn(1, generator=self.source)
        return outputs + 0.01 * noise + 0.01 * self.memory


def test_state_outside_the_state_dict_is_put_back():
    model = Stateful()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    places = {name: t.data_ptr() for name, t in (*model.named_buffers(), ("memory", model.memory))}
    source, noise = model.source.get_state(), model.noise.bit_generator.state
    lrrt.range_test(model, LOSS, tensors(), optimizer, batch_size=16, steps=12)
    assert model.count == 0 and model.calls == 0 and not hasattr(model, "last")
    assert model.numpy == 3 and model.losses == [0.0] and not hasattr(model, "seen")
    assert same(model.means, (torch.zeros(CLASSES),))
    assert torch.equal(model.replaced, torch.zeros(2))
    assert torch.equal(model.memory, torch.zeros(CLASSES))
    assert torch.equal(model.weight, torch.ones(FEATURES, CLASSES))
    assert places == {
        name: t.data_ptr() for name, t in (*model.named_buffers(), ("memory", model.memory))
    }
    assert torch.equal(model.source.get_state(), source)
    assert model.noise.bit_generator.state == noise


def test_extra_state_is_put_back_and_tensors_stay_in_place():
    class Logged(nn.Linear):
        def __init__(self):
            super().__init__(FEATURES, CLASSES)
            self.log, self.total = [0.0], torch.zeros(())

        def forward(self, x):
            self.log.append(1.0)
            self.total += 1
            return super().forward(x)

        def get_extra_state(self):
            return {"log": self.log, "total": self.total}

        def set_extra_state(self, state):
            self.log, self.total = state["log"], state["total"]

    model = Logged()
    total = model.total
    lrrt.range_test(model, LOSS, loader(), sgd(model), steps=12)
    assert model.log == [0.0] and model.total is total and total == 0


@pytest.mark.parametrize("trace", [False, True], ids=["scripted", "traced"])
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_a_torchscript_model_trains_on_as_without_the_test(trace):
    x, y = tensors(32)

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()
            self.register_buffer("replaced", torch.zeros(2))
            self.count, self.memory = 0, [0.0]

        def forward(self, x):
            self.count += 1
            self.memory.append(1.0)
            self.replaced = self.replaced + 1
            return self.inner(x)

    def trained(test):
        torch.manual_seed(0)
        model = torch.jit.trace(network().eval(), x) if trace else torch.jit.script(Counted())
        model.train()
        optimizer, losses = torch.optim.Adam(model.parameters()), []
        for step in range(6):
            if test and step == 3:
                model.eval()
                curve = lrrt.range_test(model, LOSS, loader(), optimizer, steps=12)
                assert len(curve) == 12 and not any(m.training for m in model.modules())
                model.train()
            optimizer.zero_grad()
            loss = LOSS(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if not trace:
            assert model.count == 6 and len(model.memory) == 7
        return losses, dict(model.state_dict())

    assert same(trained(False), trained(True))


def test_keep_puts_back_what_the_data_use():
    numbers, own = np.random.default_rng(0), torch.Generator().manual_seed(0)

    class Augmented:
        def __iter__(self):
            for x, y in loader():
                yield x + numbers.normal() + torch.randn(1, generator=own), y

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = numbers.bit_generator.state, own.get_state()
    lrrt.range_test(model, LOSS, Augmented(), optimizer, steps=12, keep=[numbers, own])
    assert same(before, (numbers.bit_generator.state, own.get_state()))
    with pytest.raises(InputError, match="keep.*state_dict"):
        lrrt.range_test(model, LOSS, Augmented(), optimizer, keep=[3])


class Margin(nn.Module):
    """A loss with a parameter, a buffer and a counter of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(CLASSES))
        self.register_buffer("seen", torch.zeros(()))
        self.calls = 0

    def forward(self, outputs, targets):
        self.seen += 1
        self.calls += 1
        return LOSS(outputs * self.scale, targets)


def test_a_module_in_keep_is_put_back_whole():
    model, hidden = network(), Margin()

    class Data:  # calls it, too, also for the batch before the model is touched
        def __iter__(self):
            for x, y in loader():
                hidden(x[:, :CLASSES], y)
                yield x, y

    def loss(outputs, targets):
        return hidden(outputs, targets)

    hidden.scale.grad = waiting = torch.ones(CLASSES)
    lrrt.range_test(model, loss, Data(), sgd(model), steps=12, keep=[hidden])
    assert hidden.seen == 0 and hidden.calls == 0
    assert hidden.scale.grad is waiting and torch.equal(waiting, torch.ones(CLASSES))
    hidden.scale.grad = None
    lrrt.range_test(model, loss, loader(), sgd(model), steps=12, keep=hidden)
    assert hidden.scale.grad is None and hidden.calls == 0


class Sharpness(torch.optim.Optimizer):
    """Sharpness-aware minimisation in the form of github.com/davda54/sam."""

    def __init__(self, parameters):
        super().__init__(parameters, {"rho": 0.05, "lr": 0.1})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=0.1, momentum=0.9)
        self.param_groups = self.base_optimizer.param_groups
        self.itself = self  # a cycle

    @torch.no_grad()
    def step(self, closure):
        parameters = [p for group in self.param_groups for p in group["params"]]
        with torch.enable_grad():
            closure()
        for parameter in parameters:
            self.state[parameter]["old"] = parameter.clone()
            parameter.add_(parameter.grad, alpha=self.param_groups[0]["rho"])
        with torch.enable_grad():
            closure()
        for parameter in parameters:
            parameter.data = self.state[parameter]["old"]
        self.base_optimizer.step()


class Lookahead(torch.optim.Optimizer):
    """It shares the state of what it wraps, and has more in its state dict and in a tensor."""

    def __init__(self, parameters):
        self.inner = torch.optim.Adam(parameters, lr=0.01)
        self.param_groups, self.state = self.inner.param_groups, self.inner.state
        self.slow = [p.detach().clone() for g in self.param_groups for p in g["params"]]
        self.steps = torch.zeros(())

    def state_dict(self):
        return {"inner": self.inner.state_dict(), "slow": self.slow}

    def load_state_dict(self, state):
        self.inner.load_state_dict(state["inner"])
        self.param_groups, self.state = self.inner.param_groups, self.inner.state
        self.slow = state["slow"]

    def step(self, closure):
        closure()
        self.inner.step()
        self.steps += 1
        if self.steps % 3 == 0:
            fast = [p for group in self.param_groups for p in group["params"]]
            for slow, parameter in zip(self.slow, fast, strict=True):
                slow.lerp_(parameter.detach(), 0.5)
                parameter.data.copy_(slow)


class Proxy:
    """No optimiser by class; all that it has is another's."""

    def __init__(self, parameters):
        self.inner = torch.optim.Adam(parameters, lr=0.01)

    def __getattr__(self, name):
        return getattr(self.__dict__["inner"], name)

    def step(self, closure):
        closure()
        self.inner.step()


@pytest.mark.parametrize("wrapper", [Sharpness, Lookahead, Proxy])
def test_an_optimiser_that_wraps_another_is_put_back(wrapper):
    def trained(test):
        torch.manual_seed(0)
        model, (x, y), losses = network(), tensors(), []
        optimizer = wrapper(model.parameters())

        def closure():
            model.zero_grad()
            loss = LOSS(model(x), y)
            loss.backward()
            losses.append(loss.item())
            return loss

        for step in range(10):
            if test and step == 4:
                lrrt.range_test(model, LOSS, loader(), optimizer, steps=20)
            optimizer.step(closure)
        return losses

    assert trained(False) == trained(True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_with_half_precision_and_its_random_state():
    torch.manual_seed(0)
    model = network().cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.amp.GradScaler("cuda")
    before = copy.deepcopy(model.state_dict()), torch.cuda.get_rng_state()
    curve = lrrt.range_test(
        model, LOSS, loader(), optimizer, scaler=scaler, autocast=torch.float16, steps=30
    )
    assert len(curve) > 10 and scaler.get_scale() == 65536
    assert same(before[0], model.state_dict()) and torch.equal(
        before[1], torch.cuda.get_rng_state()
    )
