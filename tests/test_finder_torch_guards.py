"""What a range test on a live PyTorch model must notice: rates that are not used, optimisers that
are not what they look like, data and states of other kinds."""

import copy
import functools
import math
import random
import warnings
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_torch import LOSS, loader, network, tensors
from torch import nn
from torch_training import same

import lrrt
from lrrt.errors import InputError
from lrrt.finder import torch_state
from lrrt.finder.data import batch_length, digest, sample_shapes
from lrrt.finder.fingerprint import changed

torch.set_num_threads(1)


def sgd(model, **options):
    return torch.optim.SGD(model.parameters(), **({"lr": 0.1} | options))


def plain_losses(model, optimizer, rates, step=None):
    """What a loop by hand sees at ``rates``."""
    losses, batches = [], []
    while len(batches) < len(rates):
        batches += list(loader())
    for rate, (x, y) in zip(rates, batches, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = LOSS(model(x), y)
        loss.backward()
        (step or optimizer.step)(*([x, y] if step else []))
        losses.append(loss.item())
    return losses


# ---- the rate that is set is the rate that is used ----------------------------------------------


class Anew:
    """Its parameter groups are made anew at each access, as those of fastai's wrapper."""

    def __init__(self, optimizer, hidden=False):
        self.inner = (lambda: optimizer) if hidden else optimizer
        self.step = optimizer.step
        self._groups = lambda: [dict(group) for group in optimizer.param_groups]

    @property
    def param_groups(self):
        return self._groups()


def test_groups_made_anew_are_steered_where_they_are_read():
    model = network()
    optimizer = sgd(model, momentum=0.9)
    curve = lrrt.range_test(model, LOSS, loader(), Anew(optimizer), start=1e-3, stop=None)
    assert optimizer.param_groups[0]["lr"] == 0.1 and not optimizer.state
    twin = network()
    by_hand = plain_losses(twin, sgd(twin, momentum=0.9), curve.lr.tolist())
    assert curve.loss.tolist() == by_hand


def test_groups_that_cannot_be_steered_are_refused_before_the_first_step():
    model, taken = network(), []
    optimizer = Anew(sgd(model), hidden=True)
    optimizer.step = lambda: taken.append(1)
    with pytest.raises(InputError, match="optimizer: .*made anew.*'Anew'|optimizer.*'Anew'.*anew"):
        lrrt.range_test(model, LOSS, loader(), optimizer)
    assert not taken


class Scheduled(torch.optim.SGD):
    """It sets its rate itself."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = 0.05
        return super().step(closure)


class Idle(torch.optim.SGD):
    def step(self, closure=None):
        pass


@pytest.mark.parametrize(
    ("kind", "words"), [(Scheduled, "0.05"), (Idle, "steps move the model.*'Idle'")]
)
def test_an_optimiser_that_does_not_follow_is_an_error_and_leaves_no_trace(kind, words):
    model = network()
    optimizer = kind(model.parameters(), lr=0.1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=f"optimizer: .*{words}"):
        lrrt.range_test(model, LOSS, loader(), optimizer)
    assert all(map(torch.equal, before.values(), model.state_dict().values()))
    assert optimizer.param_groups[0]["lr"] == 0.1


class Blind(torch.optim.SGD):
    """Its rate has no effect at all."""

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad, alpha=-0.01)


@pytest.mark.parametrize(
    ("make", "words", "highest"),
    [
        (lambda p: torch.optim.Adafactor(p, lr=0.1), "Adafactor uses no rate above about 0.1", 0.1),
        (lambda p: torch.optim.Rprop(p, lr=0.1), "Rprop does not use its learning rate", 0),
        (lambda p: Blind(p, lr=0.1), "Blind does not use its learning rate", 0),
    ],
)
def test_rates_that_are_not_used_are_told(make, words, highest):
    model = network()
    curve = lrrt.range_test(model, LOSS, loader(), make(model.parameters()), stop=None)
    assert words in curve.about["rate_departure"]
    assert curve.about["highest_rate"] == pytest.approx(highest, rel=0.3)
    if not highest:
        assert words in curve.flaw and words in " ".join(curve.suggest().cautions)
    else:
        assert "range ends too soon" not in curve.flaw


class InVelocity(torch.optim.SGD):
    """Its velocity holds rates, as those of TensorFlow and of timm's RMSpropTF."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                velocity = self.state[parameter].setdefault("v", torch.zeros_like(parameter))
                velocity.mul_(0.9).add_(parameter.grad, alpha=group["lr"])
                parameter.sub_(velocity)


@pytest.mark.parametrize(
    "kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.NAdam, torch.optim.ASGD, InVelocity]
)
def test_rates_that_are_used_are_not(kind):
    model = network()
    optimizer = kind(model.parameters(), lr=0.1)
    curve = lrrt.range_test(model, LOSS, loader(), optimizer, stop=None)
    assert "rate_departure" not in curve.about


def test_the_optimisers_own_warm_up_stands_aside():
    class Warmed(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                group["k"] += 1
                share = min(1.0, group["k"] / max(1, group["warmup_steps"]))
                for parameter in group["params"]:
                    parameter.data.add_(parameter.grad, alpha=-group["lr"] * share)

    def warmed(model):
        optimizer = Warmed(model.parameters(), lr=0.1)
        optimizer.param_groups[0].update(k=0, warmup_steps=1000)
        return optimizer

    model, twin = network(), network()
    optimizer = warmed(model)
    curve = lrrt.range_test(model, LOSS, loader(), optimizer, start=1e-3, stop=None)
    assert "warmup_steps=1000" in curve.notes[0]
    assert optimizer.param_groups[0]["warmup_steps"] == 1000
    by_hand = plain_losses(twin, sgd(twin), curve.lr.tolist())
    assert np.allclose(curve.loss[:30], by_hand[:30], rtol=1e-5)


def test_layer_decay_that_only_a_schedule_applies_is_noted():
    model = network()
    groups = [
        {"params": model[0].parameters(), "lr_scale": 0.5},
        {"params": model[2].parameters(), "lr_scale": 1.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    assert "lr_scale from 0.5 to 1" in lrrt.range_test(model, LOSS, loader(), optimizer).notes[0]
    optimizer.param_groups[0]["lr"] = 0.05  # as timm's schedulers set it
    assert lrrt.range_test(model, LOSS, loader(), optimizer).notes == ()


@pytest.mark.parametrize("name", ["Muon", "AdamW", "Adam"])
def test_weight_decay_that_takes_all_of_a_weight_is_noted(name):
    model = network()
    if name == "Muon":  # takes matrices only
        model[0].bias = model[-1].bias = None
    make = getattr(torch.optim, name, None)
    if make is None:
        pytest.skip("needs a PyTorch with Muon")
    optimizer = make(model.parameters(), weight_decay=0.1)
    curve = lrrt.range_test(model, LOSS, loader(), optimizer, stop=None)
    if name == "Adam":  # its decay is part of the gradient, of which only the direction counts
        assert curve.notes == ()
    else:
        assert (
            "From a learning rate of 10 on" in curve.notes[0] and "decay of 0.1" in curve.notes[0]
        )
    assert lrrt.range_test(model, LOSS, loader(), optimizer, end=1, stop=None).notes == ()


# ---- optimisers that hold others, and modes ------------------------------------------------------


class Several:
    """Inner optimisers in a list, as containers of several have them."""

    def __init__(self, *optimizers):
        self.optimizers, self.count = list(optimizers), [0]

    @property
    def param_groups(self):
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self):
        self.count[0] += 1
        for optimizer in self.optimizers:
            optimizer.step()


def test_a_container_of_optimisers_is_put_back():
    model = network()
    inner = [torch.optim.Adam(layer.parameters(), lr=0.01) for layer in (model[0], model[2])]
    several = Several(*inner)
    plain_losses(model, several_zeroing(several), [0.01] * 3)
    before = copy.deepcopy([optimizer.state_dict() for optimizer in inner])
    held = inner[0].state[model[0].weight]["exp_avg"]
    lrrt.range_test(model, LOSS, loader(), several)
    assert several.count == [3]
    for optimizer, state in zip(inner, before, strict=True):
        after = optimizer.state_dict()
        assert after["param_groups"] == state["param_groups"]
        for index, slots in state["state"].items():
            assert all(torch.equal(slots[name], after["state"][index][name]) for name in slots)
    assert inner[0].state[model[0].weight]["exp_avg"] is held


def several_zeroing(several):
    several.zero_grad = lambda: [optimizer.zero_grad() for optimizer in several.optimizers]
    return several


class Moded(torch.optim.SGD):
    """As schedule-free ones: it wants train(), and its eval() moves the parameters."""

    mode = None

    def train(self):
        self.mode = "train"

    def eval(self):
        self.mode = "eval"
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.mul_(0.5)

    def step(self, closure=None):
        assert self.mode == "train"
        super().step()


def test_modes_of_an_optimiser_are_set_and_put_back():
    model, twin = network(), network()
    optimizer = Moded(model.parameters(), lr=0.1)
    options = {"start": 1e-3, "steps": 10, "stop": None}
    curve = lrrt.range_test(model, LOSS, loader(), optimizer, validation=[tensors()], **options)
    assert optimizer.mode is None
    assert curve.loss.tolist() == plain_losses(twin, sgd(twin), curve.lr.tolist())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
        assert curve.val_loss[-1] == pytest.approx(LOSS(twin(tensors()[0]), tensors()[1]).item())


# ---- closures -----------------------------------------------------------------------------------


class SAM(torch.optim.Optimizer):
    """As people have it (after davda54's): a step must be given a closure."""

    def __init__(self, params, rho=0.05, **options):
        super().__init__(params, {"rho": rho, **options})
        self.base = torch.optim.SGD(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def climb(self):
        held = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in held]).norm()
        for parameter in held:
            self.state[parameter]["old"] = parameter.clone()
            parameter.add_(parameter.grad * (self.param_groups[0]["rho"] / (norm + 1e-12)))
        self.zero_grad()

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None, "SAM requires closure, but it was not provided"
        closure = torch.enable_grad()(closure)
        self.climb()
        closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.copy_(self.state[parameter]["old"])
        self.base.step()


class NamedSAM(SAM):
    first_step = second_step = None


@pytest.mark.parametrize("kind", [SAM, NamedSAM])
def test_a_step_that_requires_a_closure_is_given_one(kind):
    model, twin = network(), network()
    curve = lrrt.range_test(
        model, LOSS, loader(), kind(model.parameters(), lr=0.1), start=1e-3, stop=None
    )
    other = kind(twin.parameters(), lr=0.1)

    def step(x, y):
        def closure():
            loss = LOSS(twin(x), y)
            loss.backward()
            return loss

        other.step(closure)

    assert curve.loss.tolist() == plain_losses(twin, other, curve.lr.tolist(), step)


class Curvature(torch.optim.SGD):
    """As AdaHessian: it differentiates the gradients again."""

    def step(self, closure=None):
        held = [p for group in self.param_groups for p in group["params"]]
        products = torch.autograd.grad(
            [p.grad for p in held], held, [torch.ones_like(p) for p in held], allow_unused=True
        )
        with torch.no_grad():
            for parameter, product in zip(held, products, strict=True):
                size = 1 if product is None else 1 + product.abs().mean()
                parameter.sub_(parameter.grad * self.param_groups[0]["lr"] / size)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_can_be_differentiated_again():
    model = network()
    optimizer = Curvature(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError):
        lrrt.range_test(model, LOSS, loader(), optimizer)
    curve = lrrt.range_test(model, LOSS, loader(), optimizer, create_graph=True)
    assert len(curve) > 50 and curve.loss[:60].min() < curve.loss[0]


# ---- data ---------------------------------------------------------------------------------------


class Restartable:
    """A loader that is its own iterator and that iter() starts anew."""

    def __init__(self):
        self.index = 0

    def __iter__(self):
        self.index = 0
        return self

    def __next__(self):
        if self.index == 6:
            raise StopIteration
        self.index += 1
        x, y = tensors()
        return x[self.index - 1 :: 6], y[self.index - 1 :: 6]


def test_an_iterator_that_begins_anew_is_no_generator():
    model, source = network(), Restartable()
    next(source), next(source)
    curve = lrrt.range_test(model, LOSS, source, sgd(model), stop=None)
    assert len(curve) == 100 and curve.notes == () and source.index == 2


class ByLength:
    """A sequence whose length alone says where it ends."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        x, y = tensors()
        return x[16 * index : 16 * index + 16], y[16 * index : 16 * index + 16]


def test_a_sequence_that_ends_by_its_length():
    model = network()
    options = {"steps": 20, "start": 1e-3, "stop": None}
    curve = lrrt.range_test(model, LOSS, ByLength(), sgd(model), **options)
    assert np.array_equal(
        curve.loss, lrrt.range_test(model, LOSS, loader(), sgd(model), **options).loss
    )


class Rebinding:
    """A loader that makes its generator anew at each pass, as fastai's."""

    def __init__(self):
        self.rng, self.passes = random.Random(0), 0

    def __iter__(self):
        self.rng, self.passes = random.Random(self.rng.randint(0, 2**32)), self.passes + 1
        order = list(range(6))
        self.rng.shuffle(order)
        batches = ByLength()
        return (batches[index] for index in order)


def test_a_generator_that_is_bound_anew_is_put_back():
    model, source, twin = network(), Rebinding(), Rebinding()
    lrrt.range_test(model, LOSS, source, sgd(model))
    assert source.passes == 0
    for (a, _), (b, _) in zip(source, twin, strict=True):
        assert torch.equal(a, b)


class Graph:
    """A batch of a class of one's own, as PyTorch Geometric's."""

    def __init__(self, x, y):
        self.x, self.y, self.num_graphs = x, y, len(y)

    def to(self, device):
        return Graph(self.x.to(device), self.y.to(device))


def test_describing_a_batch_depends_on_its_values_alone():
    x, y = tensors()
    assert digest(Graph(x, y)) == digest(Graph(x.clone(), y.clone())) != digest(Graph(x + 1, y))
    assert digest([object()]) == digest([object()])
    nested = [torch.nested.nested_tensor([x[:2], x[:k]]) for k in (3, 3, 4)]
    assert digest(nested[0]) == digest(nested[1]) != digest(nested[2])
    assert batch_length(Graph(x, y)) == 96 and batch_length(nested[0]) == 1
    assert sample_shapes([Graph(x, y), nested[0], y]) == ["Graph", "Tensor", ()]


def test_batches_of_a_class_of_ones_own():
    model = network()
    data = [Graph(*pair) for pair in loader()]
    curve = lrrt.range_test(
        model, None, data, sgd(model), batch_loss=lambda m, batch: LOSS(m(batch.x), batch.y)
    )
    assert curve.about["batch_size"] == 16
    pairs = lrrt.range_test(model, LOSS, loader(), sgd(model))
    assert np.array_equal(curve.loss, pairs.loss)


# ---- state in lists, dicts, sets and arrays -----------------------------------------------------


class Counting(nn.Linear):
    """As torchmetrics' states in lists."""

    def __init__(self):
        super().__init__(6, 3)
        self.seen, self.by_name = [], {"passes": [0]}
        self.kinds, self.total = {1}, np.zeros(2)

    def forward(self, x):
        self.seen.append(x.mean())
        self.by_name["passes"][0] += 1
        self.by_name.setdefault("new", 1)
        self.kinds.add(len(self.seen))
        self.total += 1
        return super().forward(x)


def test_what_a_module_fills_is_put_back_in_place():
    model = Counting()
    model(torch.zeros(2, 6))
    held = model.seen, model.by_name["passes"], model.total
    lrrt.range_test(model, LOSS, loader(), sgd(model))
    assert len(model.seen) == 1 and model.by_name == {"passes": [1], "new": 1}
    assert model.kinds == {1} and model.total.tolist() == [1, 1]
    assert held[0] is model.seen and held[1] is model.by_name["passes"] and held[2] is model.total
    assert math.isfinite(model.seen[0])


class Growing(nn.Linear):
    """Its buffer is made larger by the first batch, as those of quantisation."""

    def __init__(self):
        super().__init__(6, 3)
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x):
        with torch.no_grad():
            self.scale.resize_(3).fill_(2)
        return super().forward(x)


def test_a_weak_reference_to_a_module_is_followed():
    """As in a Lightning module that was trained: its trainer's parts refer to it."""
    model = network()
    model.trainer = SimpleNamespace(model=weakref.proxy(model))
    before = copy.deepcopy(model.state_dict())
    lrrt.range_test(model, LOSS, loader(), sgd(model))
    assert all(map(torch.equal, before.values(), model.state_dict().values()))


def test_a_buffer_that_grows_is_put_back():
    model = Growing()
    lrrt.range_test(model, LOSS, loader(), sgd(model))
    assert model.scale.tolist() == [1]


def test_what_a_loss_works_with_is_put_back():
    generator, discriminator = nn.Linear(2, 6), nn.Linear(6, 1)
    ours, theirs = torch.optim.Adam(generator.parameters()), sgd(discriminator, momentum=0.9)
    noise, judge = torch.Generator().manual_seed(0), nn.functional.softplus

    def rival(images, fakes):
        theirs.zero_grad()
        (judge(-discriminator(images)) + judge(discriminator(fakes.detach()))).mean().backward()
        theirs.step()
        discriminator.zero_grad()

    def batch_loss(generator, batch):
        fakes = generator(torch.randn(len(batch[0]), 2, generator=noise))
        rival(batch[0], fakes)
        return judge(-discriminator(fakes)).mean()

    def states():
        return [*discriminator.state_dict().values(), noise.get_state()]

    before = copy.deepcopy(states())
    for bound in (batch_loss, functools.partial(batch_loss)):
        with warnings.catch_warnings(action="error", category=UserWarning):
            lrrt.range_test(generator, data=loader(), optimizer=ours, batch_loss=bound, steps=20)
    assert all(map(torch.equal, before, states())) and not theirs.state


NOISE = torch.Generator()


class Noisy(nn.Linear):
    def __init__(self):
        super().__init__(6, 3)

    def forward(self, x):
        return super().forward(self.disturbed(x))

    def disturbed(self, x):
        return x + 0.1 * torch.randn(x.shape, generator=NOISE)


class Jitter:
    def __call__(self, outputs, targets):
        return LOSS(outputs + torch.randn(outputs.shape, generator=NOISE), targets)


class NoisyData(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        x, y = tensors()
        return x[index] + torch.randn(6, generator=NOISE), y[index]


def of_a_step_hook(model, optimizer):
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    return average.state_dict, {}


def of_a_module_hook(model, optimizer):
    extra = nn.BatchNorm1d(3)
    model.register_forward_hook(lambda module, inputs, outputs: extra(outputs))
    return extra.state_dict, {}


def of_a_gradient_hook(model, optimizer):
    noise = torch.Generator().manual_seed(0)
    model.weight.register_hook(lambda g: g + torch.randn(g.shape, generator=noise))
    return noise.get_state, {}


def of_a_hook_that_goes(model, optimizer):
    handles = []
    handles.append(model.register_forward_pre_hook(lambda *_: handles[0].remove()))
    return lambda: len(model._forward_pre_hooks), {}


def of_a_forward_bound_anew(model, optimizer):
    noise, forward = torch.Generator().manual_seed(0), model.forward
    model.forward = lambda x: forward(x + torch.randn(x.shape, generator=noise))
    return noise.get_state, {}


def of_a_comprehension(model, optimizer):
    noises = [torch.Generator().manual_seed(seed) for seed in range(2)]

    def loss(outputs, targets):
        return sum(LOSS(outputs + torch.randn(3, generator=n), targets) for n in noises)

    return lambda: [n.get_state() for n in noises], {"loss": loss}


def of_dicts_with_a_scaler_and_a_schedule(model, optimizer):
    nets = {"other": nn.Linear(3, 1)}
    steps = {"other": torch.optim.Adam(nets["other"].parameters())}
    schedule = torch.optim.lr_scheduler.StepLR(steps["other"], 2)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)

    def loss(outputs, targets):
        scaler.scale(nets["other"](outputs.detach()).square().mean()).backward()
        scaler.step(steps["other"])
        scaler.update()
        schedule.step()
        return LOSS(outputs, targets)

    parts = *nets.values(), *steps.values(), schedule, scaler
    return lambda: [part.state_dict() for part in parts], {"loss": loss}


def of_an_object_that_is_called(model, optimizer):
    jitter = Jitter()
    return NOISE.get_state, {"loss": lambda outputs, targets: jitter(outputs, targets)}


def of_data(model, optimizer):
    return NOISE.get_state, {"data": torch.utils.data.DataLoader(NoisyData(), 16)}


OF_FUNCTIONS = [value for name, value in sorted(globals().items()) if name.startswith("of_")]


@pytest.mark.parametrize("case", OF_FUNCTIONS, ids=lambda case: case.__name__)
def test_what_functions_and_hooks_work_with_is_put_back(case):
    model = Noisy() if case is not of_a_forward_bound_anew else nn.Linear(6, 3)
    optimizer = sgd(model, momentum=0.9)
    state, given = case(model, optimizer)
    NOISE.manual_seed(0)
    parts = model.state_dict, state, NOISE.get_state
    before = copy.deepcopy([part() for part in parts])
    with warnings.catch_warnings(action="error", category=UserWarning):
        arguments = {"loss": LOSS, "data": loader(), "optimizer": optimizer} | given
        lrrt.range_test(model, steps=20, end=0.1, **arguments)
    assert same([part() for part in parts], before)


class Box:
    """Of a class of one's own, ``depth`` of them in it."""

    def __init__(self, depth=0):
        self.count, self.seen = 0, []
        self.inner = Box(depth - 1) if depth else None


class Helped(nn.Linear):
    def __init__(self, depth=0):
        super().__init__(6, 3)
        self.helper = Box(depth)

    def forward(self, x):
        box = self.helper
        while box.inner is not None:
            box = box.inner
        box.count += 1
        box.seen.append(x.mean())
        return super().forward(x)


def test_what_objects_in_a_module_hold_is_put_back():
    model = Helped(1)
    with warnings.catch_warnings(action="error"):
        lrrt.range_test(model, LOSS, loader(), sgd(model))
    assert model.helper.inner.count == 0 and model.helper.inner.seen == []


@pytest.mark.parametrize("verify", [None, True])
def test_what_was_not_put_back_is_named(verify):
    model, source = Helped(2), loader(shuffle=True)  # deeper than what is put back
    optimizer = torch.optim.Adam(model.parameters())
    plain_losses(model, optimizer, [0.01] * 3)
    held = "model.helper.inner.inner"
    with pytest.warns(UserWarning, match=f"{held}.count"):
        curve = lrrt.range_test(model, LOSS, source, optimizer, verify=verify)
    assert curve.notes == (f"Not put back by the test: {held}.count, len({held}.seen).",)
    assert lrrt.range_test(model, LOSS, source, optimizer, verify=False).notes == ()
    model = network()
    with warnings.catch_warnings(action="error"):
        assert lrrt.range_test(model, LOSS, source, sgd(model), verify=verify).notes == ()


@pytest.mark.parametrize("whole", [False, True])
def test_a_fingerprint_differs_with_whatever_a_test_must_put_back(whole):
    model = nn.Sequential(Counting(), nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters())
    parts = {"model": model, "optimizer": optimizer}
    plain_losses(model, optimizer, [0.01] * 3)

    def names():
        after = torch_state.fingerprint(parts, (), whole)
        found, before[0] = changed(before[0], after), after
        return found

    before = [torch_state.fingerprint(parts, (), whole)]
    assert names() == []
    model[0].total += 1
    assert names() == ["model.0.total"]
    with torch.no_grad():
        model[1].running_mean[1] += 1e-6
    assert names() == ["model.1.running_mean"]
    optimizer.param_groups[0]["lr"] = 0.5
    assert names() == ["optimizer.param_groups[0]['lr']"]
    optimizer.state[model[0].weight]["exp_avg"].add_(1e-3)
    assert names() == ["the state of optimizer.param_groups[0]['params'][0]['exp_avg']"]
    model[1].eval()
    model[0].weight.grad = None
    torch.rand(1)
    assert sorted(names()) == ["PyTorch's random state", "model.0.weight.grad", "model.1.training"]


seen_by_all = []


class Moving:
    """Data that depend on what has been read, wherever that is counted."""

    def __iter__(self):
        seen_by_all.append(1)
        return iter([(x + len(seen_by_all) / 100, y) for x, y in loader()])


def test_an_order_that_was_not_put_back_is_named():
    model = network()
    with pytest.warns(UserWarning, match="the data's first batch"):
        notes = lrrt.range_test(model, LOSS, Moving(), sgd(model)).notes
    assert "the data's first batch" in notes[-1]


# ---- rates for all groups -----------------------------------------------------------------------


def test_rates_of_all_groups_are_set_in_one_call():
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[2].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    curve = lrrt.range_test(model, LOSS, loader(), optimizer)
    lrrt.set_lr(optimizer, curve.suggest("fastai_minimum"))
    lr = curve.suggest("fastai_minimum").lr
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([lr / 10, lr])
    lrrt.set_lr(optimizer, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.05, 0.5])
    torch.optim.lr_scheduler.StepLR(optimizer, 3)
    with pytest.raises(InputError, match="optimizer: .*before its schedule is made"):
        lrrt.set_lr(optimizer, 0.1)
    flat = lrrt.Curve(curve.lr[:20], np.ones(20))
    nothing = flat.suggest("lightning")
    for lr in (nothing if nothing.lr is None else -1.0, 0, "high"):
        with pytest.raises(InputError, match="lr: "):
            lrrt.set_lr(sgd(model), lr)
