"""Models, data and options that are refused, or odd and fine."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset
from torch_training import (
    CLASSES,
    FEATURES,
    LOSS,
    loader,
    network,
    same,
    sgd,
    tensors,
)

import lrrt
from lrrt.errors import InputError


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
    "no gradient": (
        lambda m: (beside := Beside(m), LOSS, loader(), sgd(beside.other)),
        "optimizer: expected one with a parameter that the loss depends on, got 'SGD'",
    ),
    "arrays of two lengths": (
        lambda m: (m, LOSS, (tensors()[0], tensors()[1][:-1]), sgd(m)),
        "batch_size|data.*one length",
    ),
}


class Stream(IterableDataset):
    def __iter__(self):
        return zip(*tensors(), strict=True)


class Beside(nn.Sequential):
    """Another layer that it does not use."""

    def __init__(self, model):
        super().__init__(model)
        self.other = nn.Linear(1, 1)

    def forward(self, x):
        return self[0](x)


class Rateless(torch.optim.Optimizer):
    """It finds its own rate."""

    def step(self, closure=None):
        raise AssertionError("no step")


def made_in_inference_mode():
    with torch.inference_mode():
        return network()


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
        ({"shape": None}, "shape: expected one of: exponential, linear, got None"),
        ({"keep_ratios": "no"}, "keep_ratios: expected True or False, got 'no'"),
        ({"create_graph": 1}, "create_graph: expected True or False, got 1"),
        ({"verify": "no"}, "verify: expected True, False or None, got 'no'"),
        ({"progress": []}, r"progress: expected True, False or None, got \[\]"),
        ({"keep": loader()}, "keep: expected random generators.*got 'DataLoader'"),
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


def test_steps_that_a_scaler_skips_are_noted():
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    options = {"scaler": scaler, "autocast": torch.float16, "steps": 12}
    curve = lrrt.range_test(model, LOSS, loader(), sgd(model), **options)
    assert curve.notes[0].startswith("The scaler skipped 12 of 12 steps")
    options["scaler"] = torch.amp.GradScaler("cpu", init_scale=1.0)
    assert lrrt.range_test(model, LOSS, loader(), sgd(model), **options).notes == ()


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
