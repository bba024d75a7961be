"""A short run of each kind and backend, pinned: no change of numbers goes unnoticed.

Where one fails after a change that is meant to change numbers, raise the version of its kind in
``ENGINE_VERSIONS`` of :mod:`lrrt.runs.spec`, so that no old result is taken for a new one, and pin
the new numbers.
"""

from importlib.util import find_spec

import numpy as np
import pytest

from lrrt.core.networks import resnet
from lrrt.core.protocol import Protocol, Ramp, WeightDecay
from lrrt.datasets import Dataset
from lrrt.runs.execute import execute
from lrrt.runs.spec import ENGINE_VERSIONS, RunSpec

STEPS = 8
PROTOCOLS = {
    "torch": Protocol(
        weight_decay=WeightDecay("decoupled", 1e-4),
        ramp=Ramp(start=1e-4, end=0.05, steps=STEPS),
    ),
    "keras": Protocol(
        padding="same",
        batch_norm_momentum=0.99,
        batch_norm_epsilon=1e-3,
        normalise=False,
        augmentation="shift",
        momentum_form="lr_inside",
        gradient_clip=1.0,
        weight_decay=WeightDecay("l2", 1e-4, 2.0, 1.0, 0.0),
        ramp=Ramp(start=1e-4, end=0.05, steps=STEPS, pairing="after"),
    ),
}
# At an LR of 0.05 PyTorch was 3e-5 apart from itself after a training, at 0.03 it was 3e-7.
CHANGES = {
    "range_test": {"validation": "running"},
    "training": {"lr": 0.03, "epochs": 2, "steps": 4, "policy": "one_cycle"},
    "curvature": {"measured": (0, 4, 7)},
}
PINNED = {
    ("range_test", 1, "torch"): {
        "loss": [
            2.9939661,
            3.29472113,
            2.83889318,
            3.42322707,
            2.7254312,
            2.65469718,
            2.80622983,
            2.55053639,
        ],
        "grad_norm": [
            3.51025963,
            3.84852242,
            3.05779648,
            3.81649613,
            3.2915113,
            3.17891932,
            2.47658443,
            2.0921514,
        ],
        "val_loss": [
            4.24572945,
            3.9571991,
            3.71365905,
            3.50296736,
            3.25769997,
            2.89738655,
            2.57970762,
            2.57439852,
        ],
    },
    ("range_test", 1, "keras"): {
        "loss": [
            2.91520095,
            3.22636604,
            2.82958078,
            3.39558315,
            2.70108509,
            2.73563385,
            3.08380127,
            3.07643747,
        ],
        "penalty": [
            0.0696894675,
            0.0696894303,
            0.0696893632,
            0.0696892217,
            0.0696888715,
            0.0696881413,
            0.0696865618,
            0.0696820617,
        ],
        "grad_norm": [
            3.19517064,
            3.62684155,
            2.90128064,
            3.78503275,
            3.14298224,
            3.4476366,
            3.31942582,
            3.31569982,
        ],
        "val_loss": [
            2.97497082,
            2.94616032,
            2.91910124,
            2.89372993,
            2.86759186,
            2.84029627,
            2.80914807,
            2.76322412,
        ],
    },
    ("training", 1, "torch"): {
        "epoch": [1, 2],
        "lr": [0.0243523696, 1.2e-07],
        "train_loss": [2.88973767, 2.31450605],
        "train_eval_loss": [2.621488, 2.43458905],
        "train_accuracy": [0.1, 0.0875],
        "val_loss": [2.61957645, 2.43243384],
        "val_accuracy": [0.125, 0.125],
    },
    ("training", 1, "keras"): {
        "epoch": [1, 2],
        "lr": [0.0243523696, 1.2e-07],
        "train_loss": [3.03080946, 2.5076583],
        "train_eval_loss": [2.96285706, 2.71936607],
        "train_accuracy": [0.1, 0.1],
        "val_loss": [2.77218485, 2.55902672],
        "val_accuracy": [0.125, 0.125],
    },
    ("curvature", 1, "torch"): {
        "loss": [2.99396563, 2.7254312, 2.55053639],
        "eigenvalue": [17.037808, 15.2595802, 6.76759251],
        "products": [7, 7, 10],
        "update_ratio": [1.60441385e-05, 0.0019035224, 0.0295179398],
    },
}  # by kind, engine version and backend
PINNED_PRODUCTS = {1: [64, 127]}  # by engine version of the curvature


def curve(backend: str, kind: str) -> dict[str, list[float]]:
    """What a small fixed run gives, by step or epoch; of the curvature, where it is measured."""
    y, x = np.mgrid[:32, :32]
    wave = (np.arange(96)[:, None, None] * 7 + 3 * y + 5 * x) % 251
    images = np.stack([wave, (2 * wave) % 256, 255 - wave], axis=-1).astype(np.uint8)
    labels = np.arange(96) % 10
    splits = (images[:80], labels[:80], images[80:], labels[80:])
    mean, std = np.array([0.49, 0.5, 0.51]), np.array([0.28, 0.29, 0.28])
    dataset = Dataset(*splits, mean, std, tuple("0123456789"), "waves")
    values = {"weights_seed": 1, "order_seed": 2, "batch_size": 16, "steps": STEPS} | CHANGES[kind]
    spec = RunSpec(
        kind, backend, PROTOCOLS[backend], resnet.Model(depth=8, width=8), dataset.digest, **values
    )
    at = list(spec.measured) or slice(None)
    return {name: array[at].tolist() for name, array in execute(spec, dataset).arrays.items()}


def products(_: str) -> list[int]:
    """Of a slow search, and of one in vain: beside an eigenvalue of 0 no residual is small."""
    import torch

    from lrrt.backends.torch.curvature import largest_eigenvalue

    x = torch.ones(500, dtype=torch.float64, requires_grad=True)
    losses = [((largest - torch.arange(500)) * x.square()).sum() / 2 for largest in (100, 0)]
    return [largest_eigenvalue(loss, [x]).products for loss in losses]


@pytest.mark.parametrize(("kind", "backend"), [(kind, backend) for kind, _, backend in PINNED])
def test_numbers_are_those_of_this_engine_version(run, kind, backend):
    if not find_spec(backend):
        pytest.skip(f"needs {backend}")
    pinned = PINNED[kind, ENGINE_VERSIONS[kind], backend]
    found = run(backend, curve, kind)
    for name, values in pinned.items():
        # With kernels for SSE 4.1, AVX and AVX2 PyTorch was 4e-7 apart from itself at most.
        assert found[name] == pytest.approx(values, rel=1e-5), name


def test_searches_for_the_curvature_end_as_in_this_engine_version(run):
    if not find_spec("torch"):
        pytest.skip("needs torch")
    found = run("torch", products)
    assert found == PINNED_PRODUCTS[ENGINE_VERSIONS["curvature"]]
