"""What the range test on live PyTorch models records, of models, batches and losses of any kind."""

from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch_training import (
    CLASSES,
    FEATURES,
    LOSS,
    OPTIMIZERS,
    SAMPLES,
    loader,
    network,
    same,
    sgd,
    tensors,
)

import lrrt
from lrrt.errors import InputError


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
