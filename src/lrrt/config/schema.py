"""The sections of ``params.yaml``, their keys, types and defaults."""

import itertools
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass
class StudyConfig:
    """Which runs a study is made of."""

    name: str = "quick"
    backends: list[str] = field(default_factory=lambda: ["keras", "torch"])
    protocols: list[str] = field(default_factory=lambda: ["blog_keras", "blog_fastai"])
    sweeps: list[str] = field(
        default_factory=lambda: ["weights", "order", "batch_size", "validation"]
    )


@dataclass
class DataConfig:
    """``path``: a local folder or archive (cifar10); null downloads it. Counts: images kept.

    ``verify``: refuse files of ``path`` whose SHA-256 is not that of a known edition."""

    name: str = "digits"
    path: str | None = None
    verify: bool = True
    train_images: int = 12800
    test_images: int = 500
    seed: int = 0


@dataclass
class ModelConfig:
    name: str = "resnet"
    depth: int = 8
    width: int = 16


@dataclass
class RampConfig:
    """``steps: null`` means one epoch of whole batches.

    ``end_at``: ``last`` puts ``end`` on the last value of the grid, ``after_last`` one beyond.
    ``pairing``: ``before`` trains batch i at grid value i; ``after`` sets grid value i after batch
    i, so that batch i trains at value max(i - 1, 0) and its loss is recorded beside value i.
    """

    start: float = 1e-7
    end: float = 100.0
    shape: str = "exponential"
    steps: int | None = None
    end_at: str = "last"
    pairing: str = "before"


@dataclass
class WeightDecayConfig:
    """``decoupled``: w <- (1 - lr * value) w before the step, every trained parameter.
    ``l2``: value * factor * sum(w^2) added to the loss, by kind of parameter (factors below);
    ``recorded`` says whether the rule's loss includes that penalty."""

    kind: str = "none"
    value: float = 0.0
    conv_factor: float = 1.0
    dense_factor: float = 1.0
    other_factor: float = 0.0
    recorded: bool = False


@dataclass
class ProtocolConfig:
    """Everything that makes two implementations differ on the same network and data."""

    rule: str = "blog_fastai"
    home: str = "torch"  # the backend on which the post ran it
    weights: str = "he_uniform"
    dense_bias: str = "zero"  # zero | uniform
    padding: str = "symmetric"  # same | symmetric, at stride 2
    batch_norm_momentum: float = 0.9  # share of the running statistics kept
    batch_norm_epsilon: float = 1e-5
    batch_norm_unbiased: bool = True  # running variance with n - 1
    normalise: bool = True  # subtract the data set's mean, divide by its deviation
    augmentation: str = "crop"  # none | crop | shift
    flip: bool = True
    momentum: float = 0.9
    momentum_form: str = "lr_outside"  # v <- m v + g, w <- w - lr v | lr_inside: v <- m v - lr g
    gradient_clip: float | None = None  # global norm
    weight_decay: WeightDecayConfig = field(default_factory=WeightDecayConfig)
    ramp: RampConfig = field(default_factory=RampConfig)
    optimizer: str = "sgd"  # a module of lrrt.core.optimizers, which says what it reads of:
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False  # Adam: epsilon beside the second moment that is not corrected


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


@dataclass
class SweepConfig:
    """A named list of runs. ``crossed_runs`` are for a protocol on a backend not its home.

    ``backends``: those of the study that run it (null: all). ``limits``: the most runs of a case,
    named ``<backend>-<protocol>``, where it is to have fewer. ``devices``: of a backend that is not
    to run on ``launcher.device``. ``precision``: ``tfloat32`` is float32 with products in TF32,
    which GPUs have; runs on a CPU are then in float32.
    """

    runs: int = 1
    crossed_runs: int = 1
    new_weights: bool = True  # new initial weights each run
    new_order: bool = True  # new batch order and augmentation each run
    batch_sizes: list[int] = field(default_factory=lambda: [128])
    steps: int | None = None  # overrides the protocol's; null keeps it
    whole_epoch: bool = False  # one epoch of whole batches overrides them; not beside ``steps``
    validation: str = "none"  # none | running | batch: statistics used by batch norm
    precision: str = "float32"  # float32 | tfloat32 | bfloat16
    seed: int = 0  # first seed
    backends: list[str] | None = None
    limits: dict[str, int] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)

    def count(self, backend: str, protocol: str, home: str) -> int:
        """Runs of one batch size of a case; ``home``: the protocol's."""
        runs = self.runs if home == backend else self.crossed_runs
        return min(runs, self.limits.get(f"{backend}-{protocol}", runs))

    def runs_on(self, backend: str) -> bool:
        return self.backends is None or backend in self.backends


@dataclass
class SweepDefaults:
    runs: int = 4
    crossed_runs: int = 2
    batch_size: int = 128
    steps: int | None = None
    precision: str = "float32"
    seed: int = 0
    devices: dict[str, str] = field(default_factory=dict)


@dataclass
class PairsConfig:
    """How many pairs of runs A, B of ``case``, named ``<backend>-<protocol>``, are trained.

    Weights B of each of its ``pairs`` at the maximum LRs of A and B; of the first ``swaps`` weights
    A as well; of the first ``grids`` both weights at all LRs, which has the swap in it.
    """

    case: str
    pairs: int = 1
    swaps: int = 1
    grids: int = 0

    @property
    def names(self) -> tuple[str, str]:
        """Backend and protocol."""
        backend, _, protocol = self.case.partition("-")
        return backend, protocol


@dataclass
class DivergenceConfig:
    """Trainings after the range tests. An epoch has ``steps_per_epoch`` steps (null: all).

    ``cases``: each once; none, and nothing is trained. ``policies``: others than a constant LR, by
    which the grids train at A's and B's maximum LR, too. ``devices``, ``precision``: as in
    :class:`SweepConfig`.
    """

    cases: list[PairsConfig] = field(
        default_factory=lambda: [PairsConfig("keras-blog_keras"), PairsConfig("torch-blog_fastai")]
    )
    policies: list[str] = field(default_factory=list)
    epochs: int = 3
    steps_per_epoch: int | None = None
    transfer_epochs: int = 3  # of the A -> B cell
    reference_lr: float = 0.1
    precision: str = "float32"
    devices: dict[str, str] = field(default_factory=dict)


class Scaled(Protocol):
    """A section that may name a batch size and a network's depth of its own."""

    batch_size: int | None
    depth: int | None


@dataclass
class AttributionConfig:
    """Which of the ``factors`` (:data:`FACTORS`) make the ranges of two protocols differ.

    Each alone, from both ends, and all of them one after the other in as many random ``orders``
    (the first being the listed one; 0: none). ``runs``: paired seeds of each (0: no attribution).
    Steps, precision and first seed are those of the weights sweep; so are ``batch_size`` and the
    network's ``depth`` where they are null, and then a protocol as it is shares its runs with it.
    ``confirmed``: factors that are exchanged one after the other, as listed and in reverse, in
    ``confirmed_runs`` paired seeds of the study's own network and batch size, too.
    """

    backend: str = "torch"
    start: str = "blog_fastai"
    end: str = "blog_keras"
    factors: list[str] = field(default_factory=lambda: list(FACTORS))
    runs: int = 0
    orders: int = 0
    confirmed: list[str] = field(default_factory=list)
    confirmed_runs: int = 0
    batch_size: int | None = None
    depth: int | None = None


@dataclass
class VarianceConfig:
    """Range tests of all combinations of so many initial weights (0: none), batch orders and
    augmentations; with one augmentation it goes with the order, as in a sweep.

    Of a factor with two levels little can be said; take three or more. The rest as in
    :class:`AttributionConfig`.
    """

    backend: str = "torch"
    protocols: list[str] = field(default_factory=lambda: ["blog_keras", "blog_fastai"])
    weights: int = 0
    orders: int = 3
    augmentations: int = 1
    batch_size: int | None = None
    depth: int | None = None


@dataclass
class InstrumentConfig:
    """What the reading of ``protocols`` owes to the instrument; ``runs``: paired seeds (0: none).

    Trained on ``backend`` with other ``steps``, ramp ``ranges`` [start, end] and ``shapes``, one of
    them changed at a time. ``restarts``: so many constant LRs between 0.001 and 10, each trained at
    for ``restart_steps`` from the same weights (0: none). What acts on a finished curve is replayed
    on those of the weights sweep, of protocols that the study has. ``batch_size``, ``depth``: as in
    :class:`AttributionConfig`.
    """

    backend: str = "torch"
    protocols: list[str] = field(default_factory=lambda: ["blog_keras", "blog_fastai"])
    runs: int = 0
    steps: list[int] = field(default_factory=list)
    ranges: list[list[float]] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    restarts: int = 0
    restart_steps: int = 30
    batch_size: int | None = None
    depth: int | None = None


@dataclass
class MechanismConfig:
    """Ramps of ``protocols`` with and without clipping, on torch; ``runs``: seeds (0: none).

    The curvature is measured at ``points`` steps of each. ``batch_size``, ``depth``: as in
    :class:`AttributionConfig`.
    """

    protocols: list[str] = field(default_factory=lambda: ["blog_keras", "blog_fastai"])
    runs: int = 0
    points: int = 12
    batch_size: int | None = None
    depth: int | None = None


@dataclass
class ReportConfig:
    title: str = "How reliable is the learning-rate finder?"
    note: str | None = None  # beside the table of runs: on what machines
    dpi: int = 110
    loss_quantiles: list[float] = field(default_factory=lambda: [0.1, 0.9])
    bootstrap_resamples: int = 2000


@dataclass
class LauncherConfig:
    """Where runs execute. ``workers: null`` means the cores, or the GPUs; more workers than GPUs
    share them, so that several seeds train at once on each (and beside them no more than the cores
    work on the CPU). ``options`` are the launcher's own (its
    module names them). Of a run's key are ``threads`` and ``device`` alone. ``device``: of all runs
    that neither the sweep nor ``divergence`` puts elsewhere; a section with a ``batch_size`` or
    ``depth`` of its own is always here."""

    name: str = "local"
    workers: int | None = None
    threads: int = 1
    device: str = "cpu"  # cpu | cuda
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Config:
    study: StudyConfig = field(default_factory=StudyConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    protocols: dict[str, ProtocolConfig] = field(default_factory=dict)
    sweep: SweepDefaults = field(default_factory=SweepDefaults)
    sweeps: dict[str, SweepConfig] = field(default_factory=dict)
    divergence: DivergenceConfig = field(default_factory=DivergenceConfig)
    attribution: AttributionConfig = field(default_factory=AttributionConfig)
    variance: VarianceConfig = field(default_factory=VarianceConfig)
    instrument: InstrumentConfig = field(default_factory=InstrumentConfig)
    mechanism: MechanismConfig = field(default_factory=MechanismConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)

    @property
    def cases(self) -> list[tuple[str, str, str]]:
        """Backend, protocol and sweep of every table of curves."""
        study = self.study
        everything = itertools.product(study.backends, study.protocols, study.sweeps)
        return [case for case in everything if self.sweeps[case[2]].runs_on(case[0])]


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
