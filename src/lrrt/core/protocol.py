"""What a range test is made of: images, a network, and the protocol that trains it."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

WITHIN = "within"
# Learning rates and clipping norms keep far from the ends of float32 (1e-38 to 3e38), which both
# frameworks compute in.
SMALLEST, LARGEST = 1e-30, 1e30
STEPS = (10, 100_000)  # of a range test


def within(default: Any, low: float, high: float = math.inf) -> Any:
    """A dataclass field that takes ``low`` to ``high`` (:func:`lrrt.core.checks.check_fields`); of
    a list, where ``default`` is one, each item."""
    metadata = {WITHIN: (low, high)}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class DataSection:
    """``path``: a local folder or archive (cifar10); null downloads it. Counts: images kept.

    ``verify``: refuse files of ``path`` whose SHA-256 is not that of a known edition."""

    name: str = "digits"
    path: str | None = None
    verify: bool = True
    train_images: int = within(12800, 10, 1_000_000)
    test_images: int = within(500, 10, 1_000_000)
    seed: int = within(0, 0, 2**63 - 1)


@dataclass
class ModelSection:
    """Which network: a module of :mod:`lrrt.core.networks`, whose ``Model``, a subclass of this,
    has its own parameters."""

    name: str

    def of_depth(self, depth: int | None) -> "ModelSection":
        """The same at another depth, of a network that has one; itself for None."""
        return self if depth is None else replace(self, depth=depth)


@dataclass
class Ramp:
    """``steps: null`` means one epoch of whole batches.

    ``end_at``: ``last`` puts ``end`` on the last value of the grid, ``after_last`` one beyond.
    ``pairing``: ``before`` trains batch i at grid value i; ``after`` sets grid value i after batch
    i, so that batch i trains at value max(i - 1, 0) and its loss is recorded beside value i.
    """

    start: float = within(1e-7, SMALLEST, LARGEST)
    end: float = within(100.0, SMALLEST, LARGEST)
    shape: str = "exponential"
    steps: int | None = within(None, *STEPS)
    end_at: str = "last"
    pairing: str = "before"


@dataclass
class WeightDecay:
    """``decoupled``: w <- (1 - lr * value) w before the step, every trained parameter.
    ``l2``: value * factor * sum(w^2) added to the loss, by kind of parameter (factors below);
    ``recorded`` says whether the rule's loss includes that penalty."""

    kind: str = "none"
    value: float = within(0.0, 0, 1e6)
    conv_factor: float = within(1.0, 0, 1e6)
    dense_factor: float = within(1.0, 0, 1e6)
    other_factor: float = within(0.0, 0, 1e6)
    recorded: bool = False

    def penalty(self, kind: str) -> float:
        """L2 strength of parameters of a kind (:class:`lrrt.core.network.Parameter`); 0 without."""
        factors = {"conv": self.conv_factor, "dense": self.dense_factor}
        return self.value * factors.get(kind, self.other_factor) if self.kind == "l2" else 0.0


@dataclass
class Protocol:
    """Everything that makes two implementations differ on the same network and data."""

    rule: str = "blog_fastai"
    home: str = "torch"  # the backend on which the post ran it
    weights: str = "he_uniform"
    dense_bias: str = "zero"  # zero | uniform
    padding: str = "symmetric"  # same | symmetric, at stride 2
    batch_norm_momentum: float = within(0.9, 0, 1)  # share of the running statistics kept
    batch_norm_epsilon: float = within(1e-5, 1e-12, 1)
    batch_norm_unbiased: bool = True  # running variance with n - 1
    normalise: bool = True  # subtract the data set's mean, divide by its deviation
    augmentation: str = "crop"  # none | crop | shift
    flip: bool = True
    momentum: float = within(0.9, 0, 0.9999)
    momentum_form: str = "lr_outside"  # v <- m v + g, w <- w - lr v | lr_inside: v <- m v - lr g
    gradient_clip: float | None = within(None, SMALLEST, LARGEST)  # global norm
    weight_decay: WeightDecay = field(default_factory=WeightDecay)
    ramp: Ramp = field(default_factory=Ramp)
    optimizer: str = "sgd"  # a module of lrrt.core.optimizers, which says what it reads of:
    beta1: float = within(0.9, 0, 0.9999)
    beta2: float = within(0.999, 0, 0.999999)
    epsilon: float = within(1e-8, 1e-16, 1)
    epsilon_hat: bool = False  # Adam: epsilon beside the second moment that is not corrected


CHOICES = {
    "padding": ("same", "symmetric"),
    "dense_bias": ("zero", "uniform"),
    "augmentation": ("none", "crop", "shift"),
    "momentum_form": ("lr_inside", "lr_outside"),
    "shape": ("exponential", "linear"),
    "end_at": ("last", "after_last"),
    "pairing": ("before", "after"),
    "kind": ("none", "l2", "decoupled"),
    "weights": ("he_uniform", "he_normal", "glorot_uniform", "keras_default", "torch_default"),
    "validation": ("none", "running", "batch"),
    "precision": ("float32", "tfloat32", "bfloat16"),
    "device": ("cpu", "cuda"),
}

# What can be exchanged between two protocols: the fields (dotted) that move together. ``recorded``
# and ``rule`` only read the finished curve, so that to exchange them takes no run. A rule brings
# its stop factor, its trim and its fallback along.
FACTORS = {
    "optimizer": ("optimizer", "beta1", "beta2", "epsilon", "epsilon_hat"),
    "gradient_clip": ("gradient_clip",),
    "momentum_form": ("momentum", "momentum_form"),
    "padding": ("padding",),
    "weight_decay": ("weight_decay.kind", "weight_decay.value"),
    "weight_decay_factors": tuple(
        f"weight_decay.{name}_factor" for name in ("conv", "dense", "other")
    ),
    "batch_norm": ("batch_norm_momentum", "batch_norm_epsilon", "batch_norm_unbiased"),
    "input_scaling": ("normalise",),
    "augmentation": ("augmentation", "flip"),
    "weights": ("weights",),
    "dense_bias": ("dense_bias",),
    "ramp": ("ramp.start", "ramp.end", "ramp.shape"),
    "steps": ("ramp.steps", "ramp.end_at"),
    "pairing": ("ramp.pairing",),
    "recorded": ("weight_decay.recorded",),
    "rule": ("rule",),
}
