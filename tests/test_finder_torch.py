"""The range test on live PyTorch models: what it records, and that it leaves no trace."""

import copy
import random
from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import lrrt
from lrrt.errors import InputError

torch.set_num_threads(1)
FEATURES, CLASSES, SAMPLES = 6, 3, 96
LOSS = nn.CrossEntropyLoss()


def tensors(samples=SAMPLES):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, FEATURES, generator=generator)
    return x, (x[:, :CLASSES] + 0.1 * x[:, CLASSES:]).argmax(1)


def network():
    return nn.Sequential(
        nn.Linear(FEATURES, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(12, CLASSES),
    )


def loader(**options):
    return DataLoader(TensorDataset(*tensors()), 16, **({"shuffle": True} | options))


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "capturable": lambda p: torch.optim.NAdam(p, lr=0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
}


class Training:
    """A training with all that has a state: schedule, scaler, shuffling, dropout, augmentation."""

    def __init__(self, optimizer, *, precision=None, groups=False, **loading):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        self.model = network()
        parameters = list(self.model.parameters())
        if groups:
            parameters = [
                {"params": parameters[:2], "lr": 0.01},
                {"params": parameters[2:], "lr": 0.1},
            ]
        self.optimizer = OPTIMIZERS[optimizer](parameters)
        schedules = torch.optim.lr_scheduler
        if optimizer == "lbfgs":
            self.schedule = schedules.StepLR(self.optimizer, 5)
        else:
            self.schedule = schedules.OneCycleLR(self.optimizer, 0.2, total_steps=80)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
        self.scaled = precision is not None
        self.loader = loader(**loading)

    def epoch(self):
        losses = []
        for x, y in self.loader:
            x = x + 0.01 * random.random() + 0.01 * np.random.rand() + 0.01 * torch.randn(x.shape)

            def closure(x=x, y=y):
                self.optimizer.zero_grad()
                loss = LOSS(self.model(x), y)
                (self.scaler.scale(loss) if self.scaled else loss).backward()
                losses.append(loss.item())
                return loss

            if self.scaled:
                closure()
                self.scaler.step(self.optimizer)
                self.scaler.update()
            else:
                self.optimizer.step(closure)
            self.schedule.step()
        return losses

    def state(self):
        optimizer = self.optimizer.state_dict()
        return {
            "model": {k: v.clone() for k, v in self.model.state_dict().items()},
            "optimizer": copy.deepcopy(optimizer),
            "schedule": copy.deepcopy(self.schedule.state_dict()),
            "scaler": self.scaler.state_dict(),
            "grad": [None if p.grad is None else p.grad.clone() for p in self.model.parameters()],
            "modes": [m.training for m in self.model.modules()],
            "random": [random.getstate(), np.random.get_state()[1], torch.get_rng_state()],
        }


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return a == b


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


@pytest.mark.parametrize(
    ("name", "clip_norm", "scaled"),
    [
        ("sgd", None, False),
        ("sgd", 0.2, False),
        ("sgd", None, True),
        ("sgd", 0.2, True),
        ("lbfgs", 0.2, False),
    ],
)
def test_curve_is_the_plain_loop(name, clip_norm, scaled):
    """Against the test written out by hand, raw losses to the bit."""
    torch.manual_seed(0)
    model, (x, y) = network()[:1], tensors()
    optimizer = OPTIMIZERS[name](model.parameters())
    batches = [(x[:32], y[:32] % 12), (x[32:64], y[32:64]), (x[64:], y[64:])]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10) if scaled else None  # exact
    curve = lrrt.range_test(
        model,
        LOSS,
        batches,
        optimizer,
        start=1e-3,
        end=1.0,
        steps=10,
        clip_norm=clip_norm,
        scaler=scaler,
    )
    expected = []
    for i, lr in enumerate(np.geomspace(1e-3, 1.0, 10)):
        optimizer.param_groups[0]["lr"], seen = lr, []

        def closure(batch=batches[i % 3], seen=seen):
            optimizer.zero_grad()
            loss = LOSS(model(batch[0]), batch[1])
            loss.backward()
            norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
            seen.append((loss.item(), 0.0, norm.item()))
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            return loss

        optimizer.step(closure)
        expected.append((lr, *seen[0]))  # before the update
    lrs, losses, penalties, norms = zip(*expected, strict=True)
    assert np.array_equal(curve.lr, lrs) and np.array_equal(curve.loss, losses)
    assert np.array_equal(curve.penalty, penalties)
    assert curve.grad_norm == pytest.approx(norms, rel=1e-6)
    assert curve.stopped == "" and curve.val_loss is None


def test_accumulation_is_one_large_batch():
    x, y = tensors()
    torch.manual_seed(0)
    model = nn.Linear(FEATURES, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    halves = [(x[i : i + 16], y[i : i + 16]) for i in range(0, SAMPLES, 16)]
    wholes = [(x[i : i + 32], y[i : i + 32]) for i in range(0, SAMPLES, 32)]
    small = lrrt.range_test(model, LOSS, halves, optimizer, steps=30, accumulate=2)
    large = lrrt.range_test(model, LOSS, wholes, optimizer, steps=30)
    assert small.loss == pytest.approx(large.loss, rel=1e-4)
    assert small.grad_norm == pytest.approx(large.grad_norm, rel=1e-4)


def test_parameter_groups_keep_their_ratios():
    model = nn.Sequential(nn.Linear(FEATURES, 4), nn.Linear(4, CLASSES))
    seen = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            super().step(closure)

    groups = [
        {"params": part.parameters(), "lr": lr} for part, lr in ((model[0], 0.01), (model[1], 0.1))
    ]
    optimizer = Spy(groups)
    curve = lrrt.range_test(model, LOSS, loader(), optimizer, steps=10)
    assert np.array_equal([pair[1] for pair in seen[: len(curve)]], curve.lr)
    assert np.allclose([pair[0] / pair[1] for pair in seen], 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.1]
    seen.clear()
    lrrt.range_test(model, LOSS, loader(), optimizer, steps=10, keep_ratios=False)
    assert all(a == b for a, b in seen)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)  # a warm-up from 0
    warm = lrrt.range_test(model, LOSS, loader(), optimizer, steps=10)
    assert warm.about["ratios"] == pytest.approx([0.1, 1])
    for group in optimizer.param_groups:
        del group["initial_lr"]
    alike = lrrt.range_test(model, LOSS, loader(), optimizer, steps=10)
    assert alike.about["ratios"] == [1, 1] and "no ratios to keep" in alike.notes[0]


def test_validation_leaves_the_curve_alone():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(0)
    plain = lrrt.range_test(model, LOSS, loader(), optimizer, steps=20)
    torch.manual_seed(0)
    validated = lrrt.range_test(
        model, LOSS, loader(), optimizer, steps=20, validation=loader(), validate_every=5
    )
    assert np.array_equal(plain.loss, validated.loss)
    measured = np.flatnonzero(~np.isnan(validated.val_loss))
    assert measured.tolist() == [i for i in range(4, 20, 5) if i < len(plain)]
    assert ((validated.val_accuracy[measured] >= 0) & (validated.val_accuracy[measured] <= 1)).all()


def test_validation_values_are_those_of_the_whole_source():
    x, y = tensors()
    model = nn.Linear(FEATURES, CLASSES)
    parts = iter([(x[:10], y[:10]), (x[10:], y[10:])])  # read once, of two sizes
    curve = lrrt.range_test(
        model, LOSS, loader(), sgd(model), start=1e-12, end=1e-11, steps=10, validation=parts
    )
    outputs = model(x)
    assert curve.val_loss == pytest.approx([LOSS(outputs, y).item()] * 10, rel=1e-5)
    right = (outputs.argmax(1) == y).float().mean().item()
    assert curve.val_accuracy == pytest.approx([right] * 10)


def test_arrays_to_validate_on_are_evaluated_whole():
    (x, y), model = tensors(), nn.Linear(FEATURES, CLASSES)
    for count in (50, 10):  # a batch and a half, and less than one
        part = x[:count], y[:count]
        curve = lrrt.range_test(
            model,
            LOSS,
            (x, y),
            sgd(model),
            start=1e-12,
            end=1e-11,
            steps=10,
            batch_size=32,
            validation=part,
        )
        assert curve.val_loss == pytest.approx([LOSS(model(part[0]), part[1]).item()] * 10)


class LowRank(nn.Linear):
    """As loralib's: its weights are one while it is evaluated, two parts while it trains."""

    def __init__(self):
        super().__init__(FEATURES, CLASSES)
        self.weight.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(2, FEATURES))
        self.b = nn.Parameter(torch.zeros(CLASSES, 2))
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.b @ self.a).data
            self.merged = not mode
        return self

    def forward(self, x):
        outputs = super().forward(x)
        return outputs if self.merged else outputs + x @ self.a.T @ self.b.T


def test_validation_leaves_a_model_that_changes_between_modes_alone():
    torch.manual_seed(0)
    model = nn.Sequential(LowRank(), nn.BatchNorm1d(CLASSES), nn.Dropout(0))
    model[1].eval()  # frozen
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    seen, options = set(), {"start": 1e-3, "end": 1.0, "steps": 20, "batch_size": 16}

    def loss(model, batch):
        if torch.is_grad_enabled():
            seen.add((model[0].merged, *(m.training for m in model.modules())))
        return LOSS(model(batch[0]), batch[1])

    options |= {"data": tensors(), "optimizer": optimizer, "batch_loss": loss}
    plain = lrrt.range_test(model, **options)
    validated = lrrt.range_test(model, validation=tensors(), **options)
    assert seen == {(False, True, True, False, True)}
    assert validated.loss == pytest.approx(plain.loss, rel=1e-4)
    assert plain.loss[-1] < 0.9 * plain.loss[0]
    assert model.training and not model[1].training and not model[0].merged


def test_one_logit_has_no_accuracy():
    x, model = tensors()[0], nn.Linear(FEATURES, 1)

    def loss(outputs, targets):
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())

    data = x, (x[:, 0] > 0).long()
    curve = lrrt.range_test(model, loss, data, sgd(model), batch_size=16, steps=12, validation=data)
    assert np.isfinite(curve.val_loss).all() and curve.val_accuracy is None


class Broken(nn.Linear):
    """Not a number whenever it is evaluated."""

    def forward(self, x):
        return super().forward(x) * (1.0 if self.training else np.nan)


def test_a_training_whose_validation_fails_has_no_loss():
    def make_model():
        model = Broken(FEATURES, CLASSES)
        return model, sgd(model), LOSS

    for validation, finite in ({"validation": loader()}, False), ({}, True):
        audit = lrrt.audit(
            make_model,
            lambda more=validation: {"data": loader()} | more,
            runs=2,
            steps=20,
            train_steps=10,
            rule="fastai_minimum",
        )
        assert len(audit.trials) == 6
        assert all(np.isfinite(trial.loss) == finite for trial in audit.trials)


def test_models_that_return_their_loss_and_batches_of_any_kind():
    class Output(dict):
        loss = property(lambda self: self["loss"])
        logits = property(lambda self: self["logits"])

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(FEATURES, CLASSES)

        def forward(self, inputs, labels):
            logits = self.layer(inputs)
            return Output(loss=LOSS(logits, labels), logits=logits)

    x, y = tensors()
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters())
    named = [{"inputs": x[i::4].numpy(), "labels": y[i::4].numpy()} for i in range(4)]
    whole = lrrt.range_test(model, None, named, optimizer, steps=20, validation=named)
    assert np.isfinite(whole.val_accuracy).any()
    pairs = [(x[i::4], y[i::4]) for i in range(4)]
    other = lrrt.range_test(
        model, data=pairs, optimizer=optimizer, steps=20, batch_loss=lambda m, b: m(*b)["loss"]
    )
    assert np.array_equal(whole.loss, other.loss)
    double = [({"input": x[i::4].double().numpy()}, y[i::4].int().numpy()) for i in range(4)]
    again = lrrt.range_test(model.layer, LOSS, double, optimizer, steps=20)
    assert np.array_equal(whole.loss, again.loss)


def test_batches_that_move_themselves_arrive_as_they_are():
    class Encoding(UserDict):
        """As Hugging Face's BatchEncoding: attributes, moved in place."""

        def __getattr__(self, name):
            if name == "data" or name not in self.data:
                raise AttributeError(name)
            return self.data[name]

        def to(self, device):
            self.data = {name: tensor.to(device) for name, tensor in self.data.items()}
            return self

    (x, y), model = tensors(), network()
    data = [Encoding(input=x[i::3], labels=y[i::3]) for i in range(3)]
    held = [batch.data for batch in data]
    options = {"data": data, "optimizer": sgd(model), "steps": 10}
    curve = lrrt.range_test(
        model, batch_loss=lambda m, batch: LOSS(m(batch.input), batch.labels), **options
    )
    assert len(curve) == 10 and curve.about["batch_size"] == 32
    assert all(batch.data is before for batch, before in zip(data, held, strict=True))
    options["data"] = [(Encoding(input=x[i::3]), y[i::3]) for i in range(3)]
    assert len(lrrt.range_test(model, LOSS, **options)) == 10
    options["data"] = Encoding(input=x), y  # arrays
    assert len(lrrt.range_test(model, LOSS, **options, batch_size=16)) == 10


def test_packed_sequences_are_one_input():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent, self.last = nn.GRU(FEATURES, 8), nn.Linear(8, CLASSES)

        def forward(self, packed):
            return self.last(self.recurrent(packed)[1][0])

    x, y = tensors()
    data = [
        (pack_sequence([x[i : i + 5], x[i + 5 : i + 8], x[i + 8 : i + 10]]), y[i : i + 3])
        for i in range(0, 80, 10)
    ]
    model = Recurrent()
    options = {"data": data, "optimizer": sgd(model), "steps": 10}
    torch.manual_seed(0)
    curve = lrrt.range_test(model, LOSS, **options)
    own = lrrt.range_test(model, batch_loss=lambda m, b: LOSS(m(b[0]), b[1]), **options)
    assert len(curve) == 10 and np.array_equal(curve.loss, own.loss)
    assert curve.about["batch_size"] == 3
    other = lrrt.range_test(model, LOSS, **(options | {"data": data[1:]}))
    assert curve.about["first_batch"] != other.about["first_batch"]


def test_one_batch_and_arrays_without_targets():
    (x, y), model = tensors(), network()[0]
    whole = lrrt.range_test(model, lambda o, _: o.square().mean(), [(x, y)], sgd(model), steps=10)
    assert len(whole) == 10 and "one batch" in whole.notes[0]
    torch.manual_seed(0)
    alone = lrrt.range_test(
        model,
        data=(x,),
        optimizer=sgd(model),
        steps=10,
        batch_size=SAMPLES,
        batch_loss=lambda m, batch: m(*batch).square().mean(),
    )
    assert alone.notes == whole.notes and alone.loss == pytest.approx(whole.loss)
    model = nn.Linear(FEATURES, FEATURES)
    with pytest.raises(
        InputError, match=r"data: expected .*\(x, x\) for an autoenc.*got 'tuple of \(16, 6\)'"
    ):
        lrrt.range_test(model, nn.MSELoss(), (x,), sgd(model), batch_size=16)
    assert lrrt.range_test(model, nn.MSELoss(), (x, x), sgd(model), batch_size=16).loss[0] > 0


def test_frozen_batch_norm_stays_frozen_and_an_evaluated_model_trains():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[1].eval()
    seen = set()
    model[1].register_forward_hook(lambda m, *_: seen.add(m.training))
    lrrt.range_test(model, LOSS, loader(), optimizer, steps=10)
    assert seen == {False} and model.training and not model[1].training
    model.eval()
    lrrt.range_test(model, LOSS, loader(), optimizer, steps=10)
    assert True in seen and not model.training
    model[0].weight.requires_grad_(False)
    model[0].register_forward_pre_hook(lambda m, _: setattr(m.weight, "requires_grad", True))
    lrrt.range_test(model, LOSS, loader(), optimizer, steps=10)
    assert not model[0].weight.requires_grad and model[0].bias.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_gradients_that_wait_for_a_step_are_still_there():
    model, (x, y) = network(), tensors()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    LOSS(model(x), y).backward()
    gradients = [p.grad for p in model.parameters()]
    values = [g.clone() for g in gradients]
    lrrt.range_test(model, LOSS, loader(), optimizer, steps=10)
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert same(values, gradients)
    scale = torch.zeros(1, requires_grad=True)  # no nn.Parameter, no module's
    optimizer = torch.optim.SGD([*model.parameters(), scale], lr=0.1)
    (3 * scale).sum().backward()
    waiting = scale.grad
    lrrt.range_test(model, lambda o, t: LOSS(o * scale.exp(), t), loader(), optimizer, steps=10)
    assert scale.grad is waiting and waiting == 3 and scale == 0


def test_learning_rate_held_as_a_tensor_stays_in_place():
    model = network()
    lr = torch.tensor(0.01)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, capturable=False, foreach=False)
    curve = lrrt.range_test(model, LOSS, loader(), optimizer, steps=10)
    assert optimizer.param_groups[0]["lr"] is lr and lr == torch.tensor(0.01)
    assert len(curve) == 10 and curve.loss[:3].std() < 1


def explode(outputs, targets):
    return LOSS(outputs, targets) * float("nan")


BAD = {
    "no parameters": (lambda m: (nn.ReLU(), LOSS, loader(), None), "model.*with parameters"),
    "frozen": (
        lambda m: (m.requires_grad_(False), LOSS, loader(), sgd(m)),
        "model.*all.*frozen",
    ),
    "lazy": (lambda m: (nn.LazyLinear(3), LOSS, loader(), sgd(m)), "model.*lazy"),
    "no model": (lambda m: ("resnet", LOSS, loader(), sgd(m)), "model.*nn.Module"),
    "no optimizer": (lambda m: (m, LOSS, loader(), None), "optimizer: expected .*got None"),
    "another's optimizer": (lambda m: (m, LOSS, loader(), sgd(network())), "optimizer.*this model"),
    "no data": (lambda m: (m, LOSS, None, sgd(m)), "data: expected .*got None"),
    "a number": (lambda m: (m, LOSS, 3, sgd(m)), "data: expected .*iterable.*got 'int'"),
    "a data set": (lambda m: (m, LOSS, TensorDataset(*tensors()), sgd(m)), "data.*DataLoader"),
    "empty": (lambda m: (m, LOSS, [], sgd(m)), "data: expected .*got 'no batch'"),
    "empty generator": (lambda m: (m, LOSS, iter(()), sgd(m)), "data: expected .*got 'no batch'"),
    "a stream of samples": (
        lambda m: (m, LOSS, Stream(), sgd(m)),
        "data: expected a DataLoader of it, got 'Stream'; with batch_size=None",
    ),
    "samples": (
        lambda m: (m, LOSS, list(zip(*tensors(), strict=True)), sgd(m)),
        r"data: expected .*no single samples.*got 'tuple of \(6,\), \(\)'",
    ),
    "samples with labels of Python": (
        lambda m: (m, LOSS, list(zip(tensors()[0], tensors()[1].tolist(), strict=True)), sgd(m)),
        "data:.*no single samples",
    ),
    "numpy samples": (
        lambda m: (m, LOSS, list(zip(*(t.numpy() for t in tensors()), strict=True)), sgd(m)),
        "data:.*no single samples",
    ),
    "no rate": (lambda m: (m, LOSS, loader(), Rateless(m.parameters(), {})), "an lr.*Rateless"),
    "rate of None": (
        lambda m: (m, LOSS, loader(), Rateless(m.parameters(), {"lr": None})),
        "optimizer: expected .*relative_step=False.*got 'Rateless'",
    ),
    "meta": (lambda m: (n := network().to("meta"), LOSS, loader(), sgd(n)), "model.*meta device"),
    "inference": (
        lambda m: (n := made_in_inference_mode(), LOSS, loader(), sgd(n)),
        "model.*outside torch.inference_mode",
    ),
    "short generator": (
        lambda m: (m, LOSS, iter(loader()), sgd(m)),
        "data: expected .*at least 100.*got '6 batches, to be read once'",
    ),
    "arrays without batch size": (
        lambda m: (m, LOSS, tensors(), sgd(m)),
        "batch_size: expected .*got None",
    ),
    "bare inputs": (lambda m: (m, LOSS, [tensors()[0]] * 2, sgd(m)), "data.*pairs"),
    "vector loss": (
        lambda m: (m, nn.CrossEntropyLoss(reduction="none"), loader(), sgd(m)),
        r"loss: expected .*scalar.*got 'of shape \(16,\)'",
    ),
    "float loss": (lambda m: (m, lambda *_: 1.0, loader(), sgd(m)), "loss: expected .*got 'float'"),
    "detached loss": (
        lambda m: (m, lambda o, t: LOSS(o, t).detach(), loader(), sgd(m)),
        "loss.*depends on a parameter",
    ),
    "no loss": (lambda m: (m, None, [tensors()[:1]] * 2, sgd(m)), "loss.*scalar"),
    "forgotten loss": (
        lambda m: (m, None, loader(), sgd(m)),
        "loss: expected .*targets.*got None; .*forward",
    ),
    "loss is a class": (
        lambda m: (m, nn.CrossEntropyLoss, loader(), sgd(m)),
        r"loss: expected .*CrossEntropyLoss\(\).*got 'the class CrossEntropyLoss'",
    ),
    "loss is no function": (lambda m: (m, "mse", loader(), sgd(m)), "loss: expected .*got 'str'"),
    "other shape midway": (
        lambda m: (m, LOSS, [tensors(), (tensors()[0][:, :4], tensors()[1])], sgd(m)),
        r"data: expected .*as the first.*got \[\(4,\), \(\)\]",
    ),
    "arrays of two lengths": (
        lambda m: (m, LOSS, (tensors()[0], tensors()[1][:-1]), sgd(m)),
        "batch_size|data.*one length",
    ),
}


class Stream(IterableDataset):
    def __iter__(self):
        return zip(*tensors(), strict=True)


class Rateless(torch.optim.Optimizer):
    """It finds its own rate."""

    def step(self, closure=None):
        raise AssertionError("no step")


def made_in_inference_mode():
    with torch.inference_mode():
        return network()


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error_and_leaves_no_trace(case):
    torch.manual_seed(0)
    model = network()
    make, words = BAD[case]
    arguments = make(model)
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(InputError, match=words):
        lrrt.range_test(*arguments)
    assert same(dict(before), dict(model.state_dict()))
    assert torch.equal(random_state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 0}, "start: expected .*got 0"),
        ({"start": "a"}, "start: expected .*got 'a'"),
        ({"end": 1e-9}, "end: expected .*got 1e-09"),
        ({"end": float("inf")}, "end: expected .*got inf"),
        ({"steps": 3}, "steps: expected .*got 3"),
        ({"steps": 1.5}, "steps"),
        ({"shape": "cosine"}, "shape: expected .*got 'cosine'"),
        ({"stop": 0.5}, "stop: expected .*got 0.5"),
        ({"stop": "4"}, "stop: expected .*got '4'"),
        ({"clip_norm": "1"}, "clip_norm: expected .*got '1'"),
        ({"accumulate": 0}, "accumulate: expected .*got 0"),
        ({"validate_every": 0}, "validate_every: expected .*got 0"),
        ({"clip_norm": -1}, "clip_norm: expected .*got -1"),
        ({"autocast": "half"}, "autocast: expected .*got 'half'"),
        ({"autocast": torch.int8}, "autocast: expected .*torch.bfloat16.*got torch.int8"),
        (
            {"validation": [tensors()], "validate_every": 101},
            "validate_every: expected .*the 100 steps.*got 101",
        ),
        ({"scaler": 2}, "scaler: expected .*got 'int'"),
        ({"batch_size": 16}, "batch_size: expected .*got 16"),
        ({"seed": 3}, "seed: expected .*arrays alone.*got 3"),
        ({"seed": -1}, "seed: expected .*got -1"),
        ({"validation": []}, "validation: expected .*got 'no batch'"),
        ({"validation": 3}, "validation: expected .*got 'int'"),
        ({"batch_loss": print}, "batch_loss"),
    ],
)
def test_bad_options(options, words):
    model = network()
    with pytest.raises(InputError, match=words):
        lrrt.range_test(model, LOSS, loader(), sgd(model), **options)


def test_within_inference_mode_is_refused():
    model = network()
    with (
        torch.inference_mode(),
        pytest.raises(InputError, match="torch.inference_mode: expected .*got 'on'"),
    ):
        lrrt.range_test(model, LOSS, loader(), sgd(model))


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_accuracy_of_a_model_that_returns_named_outputs(kind):
    class Named(nn.Linear):
        def forward(self, inputs, labels):
            logits = super().forward(inputs)
            return kind(loss=LOSS(logits, labels), logits=logits)

    x, y = tensors()
    model = Named(FEATURES, CLASSES)
    data = [{"inputs": x[i::4], "labels": y[i::4]} for i in range(4)]
    curve = lrrt.range_test(model, None, data, sgd(model), steps=10, validation=data)
    assert np.isfinite(curve.val_accuracy).all()


def test_arrays_of_pandas_and_what_is_taken_for_batches():
    pandas = pytest.importorskip("pandas")
    (x, y), model = tensors(), network()
    frames = pandas.DataFrame(x.numpy()), pandas.Series(y.numpy())
    options = {"optimizer": sgd(model), "steps": 10, "batch_size": 16, "seed": 1}
    torch.manual_seed(0)
    plain = lrrt.range_test(model, LOSS, (x, y), **options)
    torch.manual_seed(0)
    assert np.array_equal(plain.loss, lrrt.range_test(model, LOSS, frames, **options).loss)
    for data in ([x, y], (x.tolist(), y.tolist())):
        with pytest.raises(
            InputError, match="batch_size: expected .*got 16; .*tuple .*NumPy.*pandas"
        ):
            lrrt.range_test(model, LOSS, data, **options)
    for data in (x, [x, y]):
        with pytest.raises(InputError, match="data: .*arrays as a tuple"):
            lrrt.range_test(model, LOSS, data, options["optimizer"])


def test_endless_data_and_endless_validation(monkeypatch):
    def forever():
        while True:
            yield from loader()

    model = network()
    curve = lrrt.range_test(model, LOSS, forever(), sgd(model), steps=20)
    assert len(curve) > 5 and "read once" in curve.notes[0]
    assert lrrt.range_test(model, LOSS, loader(), sgd(model), steps=20).notes == ()
    monkeypatch.setattr("lrrt.finder.data.VALIDATION_LIMIT", 30)
    with pytest.raises(InputError, match="validation.*endless"):
        lrrt.range_test(model, LOSS, loader(), sgd(model), validation=forever())


def test_nan_from_the_first_step_is_a_curve_that_abstains():
    model = network()
    before = copy.deepcopy(model.state_dict())
    curve = lrrt.range_test(model, explode, loader(), sgd(model))
    assert len(curve) == 1 and np.isnan(curve.loss[0])
    assert curve.stopped == "the loss was nan at step 0, LR 1e-07"
    for suggestion in curve.compare().values():
        assert suggestion.lr is None and "the loss was nan at step 0" in suggestion.reason
    assert same(dict(before), dict(model.state_dict()))


def test_samples_of_several_lengths_are_no_error():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(FEATURES, CLASSES)

        def forward(self, x):
            return self.layer(x).mean(1)

    y = torch.arange(8) % CLASSES
    batches = [(torch.randn(8, length, FEATURES), y) for length in (3, 5, 2)]
    model = Pooled()
    assert len(lrrt.range_test(model, LOSS, batches, sgd(model), steps=12)) >= 5


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
