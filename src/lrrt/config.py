"""The typed configuration: dataclasses, one validation at the edge, loading and composing.

``conf/`` composes to ``params.yaml`` (by ``dvc exp run`` or by ``lrrt compose``); every stage reads
``params.yaml`` through :func:`load`. No framework is imported here.
"""

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Protocol, get_args, get_origin, get_type_hints

from omegaconf import BooleanNode, FloatNode, IntegerNode, OmegaConf, StringNode
from omegaconf.errors import OmegaConfBaseException

from lrrt import plugins
from lrrt.errors import InputError


@dataclass
class StudyConfig:
    """Which runs a study is made of."""

    name: str = "quick"
    backends: list[str] = field(default_factory=lambda: ["keras", "torch"])
    protocols: list[str] = field(default_factory=lambda: ["blog_keras", "blog_fastai"])
    sweeps: list[str] = field(
        default_factory=lambda: ["weights", "order", "batch_size", "validation"]
    )

    @property
    def cases(self) -> list[tuple[str, str, str]]:
        """Backend, protocol and sweep of every table of curves."""
        return list(itertools.product(self.backends, self.protocols, self.sweeps))


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


# What can be exchanged between two protocols: the fields (dotted) that move together. ``recorded``
# and ``rule`` only read the finished curve, so that to exchange them takes no run. A rule brings
# its stop factor, its trim and its fallback along.
FACTORS = {
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
    """A named list of runs. ``crossed_runs`` are for a protocol on a backend not its home."""

    runs: int = 1
    crossed_runs: int = 1
    new_weights: bool = True  # new initial weights each run
    new_order: bool = True  # new batch order and augmentation each run
    batch_sizes: list[int] = field(default_factory=lambda: [128])
    steps: int | None = None  # overrides the protocol's; null keeps it
    validation: str = "none"  # none | running | batch: statistics used by batch norm
    precision: str = "float32"  # float32 | tfloat32 (on a GPU) | bfloat16
    seed: int = 0  # first seed


@dataclass
class SweepDefaults:
    runs: int = 4
    crossed_runs: int = 2
    batch_size: int = 128
    steps: int | None = None
    seed: int = 0


@dataclass
class DivergenceConfig:
    """Trainings after the range tests. An epoch has ``steps_per_epoch`` steps (null: all).

    ``pairs``: [backend, protocol] whose runs A and B are compared. ``pairs_per_case``: how many
    pairs A, B of each; those after the first are trained at the maximum LRs of A and B on weights
    B only. ``policies``: at A's and B's maximum LR, beside ``constant``.
    """

    pairs: list[list[str]] = field(
        default_factory=lambda: [["keras", "blog_keras"], ["torch", "blog_fastai"]]
    )
    pairs_per_case: int = 1
    policies: list[str] = field(default_factory=lambda: ["constant"])
    epochs: int = 3
    steps_per_epoch: int | None = None
    transfer_epochs: int = 3  # of the A -> B cell
    reference_lr: float = 0.1


class Scaled(Protocol):
    """A section that may name a batch size and a network's depth of its own."""

    batch_size: int | None
    depth: int | None


@dataclass
class AttributionConfig:
    """Which of the ``factors`` (:data:`FACTORS`) make the ranges of two protocols differ.

    Each alone, from both ends, and all of them one after the other in as many random ``orders``
    (the first being the listed one; 0: none). ``runs``: paired seeds of each (0: no attribution).
    Steps and first seed are those of ``sweep``; so are ``batch_size`` and the network's ``depth``
    where they are null, and then a protocol as it is shares its runs with the weights sweep.
    ``confirmed``: factors that are exchanged alone in ``confirmed_runs`` paired seeds of the
    study's own network and batch size, too.
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
    on those of the weights sweep, as far as the study has them. ``batch_size``, ``depth``: as in
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
    dpi: int = 110
    loss_quantiles: list[float] = field(default_factory=lambda: [0.1, 0.9])
    bootstrap_resamples: int = 2000


@dataclass
class LauncherConfig:
    """Where runs execute. ``workers: null`` means the cores, or the GPUs; more workers than GPUs
    share them, so that several seeds train at once on each. ``options`` are the launcher's own (its
    module names them). Of a run's key are ``threads`` and ``device`` alone."""

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


# Learning rates and clipping norms keep far from the ends of float32 (1e-38 to 3e38), which both
# frameworks compute in.
SMALLEST, LARGEST = 1e-30, 1e30
# Of types: what a user is told, and what OmegaConf converts to them with.
LEAVES = {
    int: ("a whole number", IntegerNode),
    float: ("a number", FloatNode),
    bool: ("true or false", BooleanNode),
    str: ("text", StringNode),
}


def check_range(key: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise :class:`InputError` unless ``low <= value <= high`` (NaN is never in range)."""
    if not low <= value <= high:
        low, high = (f"{end:g}" if isinstance(end, float) else str(end) for end in (low, high))
        span = f"at least {low}" if high == "inf" else f"from {low} to {high}"
        raise InputError(key, value, f"a number {span}")


def _check_names(key: str, names: Iterable[str]) -> None:
    """Names become parts of file names, joined by hyphens, and of DVC's parameters."""
    for name in names:
        if not re.fullmatch("[A-Za-z0-9_]{1,64}", name):
            raise InputError(key, name, "a name of 1 to 64 letters, digits and '_'")


def _check_choices(prefix: str, section: Any) -> None:
    for name, allowed in CHOICES.items():
        value = getattr(section, name, None)
        if value is not None and value not in allowed:
            raise InputError(f"{prefix}.{name}", value, f"one of: {', '.join(allowed)}")


def validate_ramp(prefix: str, ramp: RampConfig) -> None:
    _check_choices(prefix, ramp)
    for name in ("start", "end"):
        check_range(f"{prefix}.{name}", getattr(ramp, name), SMALLEST, LARGEST)
    if ramp.end <= ramp.start:
        raise InputError(f"{prefix}.end", ramp.end, f"more than {prefix}.start = {ramp.start:g}")
    if ramp.steps is not None:
        check_range(f"{prefix}.steps", ramp.steps, 10, 100_000)


def validate_protocol(prefix: str, protocol: ProtocolConfig) -> None:
    _check_choices(prefix, protocol)
    plugins.check("lrrt.core.rules", protocol.rule, f"{prefix}.rule")
    plugins.check("lrrt.backends", protocol.home, f"{prefix}.home")
    check_range(f"{prefix}.momentum", protocol.momentum, 0, 0.9999)
    check_range(f"{prefix}.batch_norm_momentum", protocol.batch_norm_momentum, 0, 1)
    check_range(f"{prefix}.batch_norm_epsilon", protocol.batch_norm_epsilon, 1e-12, 1)
    if protocol.gradient_clip is not None:
        check_range(f"{prefix}.gradient_clip", protocol.gradient_clip, SMALLEST, LARGEST)
    _check_choices(f"{prefix}.weight_decay", protocol.weight_decay)
    for name in ("value", "conv_factor", "dense_factor", "other_factor"):
        value = getattr(protocol.weight_decay, name)
        check_range(f"{prefix}.weight_decay.{name}", value, 0, 1e6)
    validate_ramp(f"{prefix}.ramp", protocol.ramp)


def validate_attribution(config: Config) -> None:
    """The protocols need to exist, and an epoch to have 10 batches, only where there are runs."""
    attribution, prefix = config.attribution, "attribution"
    plugins.check("lrrt.backends", attribution.backend, f"{prefix}.backend")
    check_range(f"{prefix}.runs", attribution.runs, 0, 100_000)
    check_range(f"{prefix}.orders", attribution.orders, 0, 1000)
    check_range(f"{prefix}.confirmed_runs", attribution.confirmed_runs, 0, 100_000)
    for name, least in (("factors", 1), ("confirmed", 0)):
        listed = getattr(attribution, name)
        if len(listed) < least or len(set(listed)) != len(listed) or set(listed) - FACTORS.keys():
            words = f"at least {least}, none twice, of: {', '.join(FACTORS)}"
            raise InputError(f"{prefix}.{name}", listed, words)
    for name in ("start", "end"):
        key, protocol = f"{prefix}.{name}", getattr(attribution, name)
        _check_names(key, [protocol])
        if attribution.runs:
            _check_swept(config, key, protocol, f"{prefix}.runs")
    if attribution.runs and attribution.start == attribution.end:
        raise InputError(f"{prefix}.end", attribution.end, f"another than {prefix}.start")
    _check_scale(config, prefix, attribution)


def validate_variance(config: Config) -> None:
    """As :func:`validate_attribution`."""
    variance, prefix = config.variance, "variance"
    plugins.check("lrrt.backends", variance.backend, f"{prefix}.backend")
    if variance.weights != 0 and not 2 <= variance.weights <= 100:
        raise InputError(f"{prefix}.weights", variance.weights, "0, or a number from 2 to 100")
    check_range(f"{prefix}.orders", variance.orders, 2, 100)
    check_range(f"{prefix}.augmentations", variance.augmentations, 1, 100)
    key, protocols = f"{prefix}.protocols", variance.protocols
    _check_names(key, protocols)
    _check_listed(key, protocols)
    for protocol in protocols if variance.weights else []:
        _check_swept(config, key, protocol, f"{prefix}.weights")
    _check_scale(config, prefix, variance)


def _check_listed(key: str, names: list[str]) -> None:
    if not names or len(set(names)) != len(names):
        raise InputError(key, names, "a list of at least one name, none twice")


def _check_swept(config: Config, key: str, protocol: str, runs: str) -> None:
    """A protocol at the batch size and steps of ``sweep``; ``runs``: the key that asks for it."""
    if protocol not in config.protocols:
        raise InputError(key, protocol, f"one of: {', '.join(sorted(config.protocols))}")
    whole = config.data.train_images // config.sweep.batch_size
    if not config.sweep.steps and not config.protocols[protocol].ramp.steps and whole < 10:
        section, name = runs.split(".")
        raise InputError(
            runs, getattr(getattr(config, section), name),
            "0: an epoch has fewer than 10 whole batches of sweep.batch_size",
        )  # fmt: skip


def _check_scale(config: Config, prefix: str, settings: Any) -> None:
    """``batch_size`` and ``depth``, where they are not those of ``sweep`` and ``model``."""
    if settings.batch_size is not None:
        check_range(f"{prefix}.batch_size", settings.batch_size, 1, config.data.train_images)
    if settings.depth is None:
        return
    network = plugins.find("lrrt.core.networks", config.model.name, "model.name")
    try:
        network.validate(replace(config.model, depth=settings.depth))
    except InputError as error:
        raise InputError(f"{prefix}.depth", settings.depth, error.allowed) from None


def _validate_probed(config: Config, prefix: str, settings: Any) -> None:
    """As :func:`validate_attribution`."""
    names, key = settings.protocols, f"{prefix}.protocols"
    check_range(f"{prefix}.runs", settings.runs, 0, 100_000)
    _check_names(key, names)
    _check_listed(key, names)
    for name in names if settings.runs else []:
        _check_swept(config, key, name, f"{prefix}.runs")
    _check_scale(config, prefix, settings)


def validate_instrument(config: Config) -> None:
    settings, prefix = config.instrument, "instrument"
    plugins.check("lrrt.backends", settings.backend, f"{prefix}.backend")
    _validate_probed(config, prefix, settings)
    for steps in settings.steps:
        check_range(f"{prefix}.steps", steps, 10, 100_000)
    for ends in settings.ranges:
        if len(ends) != 2:
            raise InputError(f"{prefix}.ranges", list(ends), "pairs [start, end]")
        validate_ramp(f"{prefix}.ranges", RampConfig(*ends))
    for shape in settings.shapes:
        if shape not in CHOICES["shape"]:
            allowed = ", ".join(CHOICES["shape"])
            raise InputError(f"{prefix}.shapes", shape, f"one of: {allowed}")
    check_range(f"{prefix}.restarts", settings.restarts, 0, 1000)
    check_range(f"{prefix}.restart_steps", settings.restart_steps, 10, 100_000)


def validate_mechanism(config: Config) -> None:
    settings = config.mechanism
    _validate_probed(config, "mechanism", settings)
    check_range("mechanism.points", settings.points, 1, 100_000)


def validate(config: Config) -> Config:
    """Check every value against what is possible.

    Raises
    ------
    InputError
        For the first key that is not; nothing has been written by then.
    """
    study = config.study
    if not re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", study.name):
        raise InputError("study.name", study.name, "1 to 64 letters, digits, '-' (not first), '_'")
    _check_names("protocols", config.protocols)
    _check_names("sweeps", config.sweeps)
    for key, listed, known in (
        ("study.backends", study.backends, plugins.names("lrrt.backends")),
        ("study.protocols", study.protocols, sorted(config.protocols)),
        ("study.sweeps", study.sweeps, sorted(config.sweeps)),
    ):
        _check_listed(key, listed)
        for name in listed:
            if name not in known:
                raise InputError(key, name, f"one of: {', '.join(known)}")
    data, model = config.data, config.model
    plugins.check("lrrt.datasets", data.name, "data.name")
    if data.path is not None and not (data.path.strip() and data.path.isprintable()):
        raise InputError("data.path", data.path, "a path of printable characters, or null")
    check_range("data.train_images", data.train_images, 10, 1_000_000)
    check_range("data.test_images", data.test_images, 10, 1_000_000)
    check_range("data.seed", data.seed, 0, 2**63 - 1)
    plugins.find("lrrt.core.networks", model.name, "model.name").validate(model)
    for name, protocol in config.protocols.items():
        validate_protocol(f"protocols.{name}", protocol)
    check_range("sweep.runs", config.sweep.runs, 1, 100_000)
    check_range("sweep.crossed_runs", config.sweep.crossed_runs, 0, 100_000)
    check_range("sweep.batch_size", config.sweep.batch_size, 1, data.train_images)
    if config.sweep.steps is not None:
        check_range("sweep.steps", config.sweep.steps, 10, 100_000)
    check_range("sweep.seed", config.sweep.seed, 0, 2**62)
    for name, sweep in config.sweeps.items():
        prefix = f"sweeps.{name}"
        _check_choices(prefix, sweep)
        check_range(f"{prefix}.runs", sweep.runs, 1, 100_000)
        check_range(f"{prefix}.crossed_runs", sweep.crossed_runs, 0, 100_000)
        check_range(f"{prefix}.seed", sweep.seed, 0, 2**62)
        if not sweep.batch_sizes:
            raise InputError(f"{prefix}.batch_sizes", sweep.batch_sizes, "at least one batch size")
        for size in sweep.batch_sizes:
            limit = data.train_images if name in study.sweeps else math.inf
            check_range(f"{prefix}.batch_sizes", size, 1, limit)
            for protocol_name in study.protocols if name in study.sweeps else []:
                whole = config.protocols[protocol_name].ramp.steps or data.train_images // size
                if sweep.steps is None and whole < 10:
                    raise InputError(
                        f"{prefix}.batch_sizes",
                        size,
                        f"at most {data.train_images // 10}: an epoch must have 10 whole batches",
                    )
        if sweep.steps is not None:
            check_range(f"{prefix}.steps", sweep.steps, 10, 100_000)
        if (
            sweep.precision == "tfloat32"
            and config.launcher.device != "cuda"
            and name in study.sweeps
        ):
            raise InputError(
                f"{prefix}.precision",
                "tfloat32",
                "float32 or bfloat16 where launcher.device is cpu",
            )
    divergence = config.divergence
    check_range("divergence.epochs", divergence.epochs, 1, 10_000)
    check_range("divergence.transfer_epochs", divergence.transfer_epochs, 1, 10_000)
    if divergence.steps_per_epoch is not None:
        check_range("divergence.steps_per_epoch", divergence.steps_per_epoch, 1, 1_000_000)
    check_range("divergence.reference_lr", divergence.reference_lr, 1e-12, 1e6)
    check_range("divergence.pairs_per_case", divergence.pairs_per_case, 1, 10_000)
    for policy in divergence.policies:
        plugins.check("lrrt.runs.policies", policy, "divergence.policies")
    for i, pair in enumerate(divergence.pairs):
        if pair in divergence.pairs[:i]:
            raise InputError("divergence.pairs", pair, "each pair once")
        if len(pair) != 2 or pair[0] not in study.backends or pair[1] not in study.protocols:
            raise InputError(
                "divergence.pairs",
                list(pair),
                "pairs [backend, protocol] of study.backends and study.protocols",
            )
    if divergence.pairs and "weights" not in study.sweeps:
        raise InputError(
            "study.sweeps", study.sweeps, "a list with 'weights', which divergence needs"
        )
    validate_attribution(config)
    validate_variance(config)
    validate_instrument(config)
    validate_mechanism(config)
    if not (config.report.title.strip() and config.report.title.isprintable()):
        raise InputError("report.title", config.report.title, "a line of printable characters")
    low, high = (config.report.loss_quantiles + [math.nan] * 2)[:2]
    if len(config.report.loss_quantiles) != 2 or not 0 <= low < high <= 1:
        raise InputError(
            "report.loss_quantiles",
            config.report.loss_quantiles,
            "two numbers, 0 <= low < high <= 1",
        )
    check_range("report.dpi", config.report.dpi, 20, 1200)
    check_range("report.bootstrap_resamples", config.report.bootstrap_resamples, 100, 1_000_000)
    if config.launcher.workers is not None:
        check_range("launcher.workers", config.launcher.workers, 1, 4096)
    check_range("launcher.threads", config.launcher.threads, 1, 1024)
    _check_choices("launcher", config.launcher)
    plugins.check("lrrt.runs.launchers", config.launcher.name, "launcher.name")
    if config.launcher.options:
        launcher = plugins.find("lrrt.runs.launchers", config.launcher.name, "launcher.name")
        launcher.validate(config.launcher)
    return config


def _typed(key: str, value: Any, hint: Any) -> Any:
    """``value`` as ``hint`` says: a dataclass of mappings, or numbers and text that can be read so.

    What OmegaConf does with ``structured`` and ``merge``, ten times as fast, and each error says
    which key it is about and what is allowed there.

    Raises
    ------
    InputError
        At the first key that ``hint`` lacks, or whose value it excludes.
    """
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and NoneType in options:
        return None
    kind = options[0]
    if kind is Any:
        return value
    if is_dataclass(kind):
        known = get_type_hints(kind)
        if not isinstance(value, dict):
            raise InputError(key, value, f"a section with the keys {', '.join(known)}")
        parts = {}
        for name, part in value.items():
            inner = f"{key}.{name}" if key else str(name)
            if name not in known:
                raise InputError(inner, part, f"no such key, but one of: {', '.join(known)}")
            parts[name] = _typed(inner, part, known[name])
        return kind(**parts)
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise InputError(key, value, "a section of named sections")
        for name in value:
            if not isinstance(name, str):
                raise InputError(key, name, "text as a name")
        return {name: _typed(f"{key}.{name}", v, get_args(kind)[1]) for name, v in value.items()}
    if get_origin(kind) is list:
        if not isinstance(value, list):
            raise InputError(key, value, "a list")
        return [_typed(f"{key}[{i}]", v, get_args(kind)[0]) for i, v in enumerate(value)]
    allowed, node = LEAVES[kind]
    try:
        converted = node(value)._value()
    except OmegaConfBaseException:
        converted = None
    if converted is None:
        raise InputError(key, value, allowed + (" or null" if NoneType in options else ""))
    return converted


def _at(values: Any, key: str) -> Any:
    """What ``values`` hold at a dotted key; the innermost that there is."""
    for part in re.findall(r"[^.\[\]]+", key):
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
    return values


def from_mapping(values: Any) -> Config:
    """Turn a mapping (nested dict or OmegaConf) into a validated :class:`Config`.

    Raises
    ------
    InputError
        For an unknown key, a value of the wrong type or an impossible value.
    """
    raw = values
    try:
        given = OmegaConf.create(values)
        raw = OmegaConf.to_container(given)
        plain = OmegaConf.to_container(given, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "configuration"
        reason = (str(error).splitlines() or ["a value that can be read"])[0]
        raise InputError(key, _at(raw, key), reason) from None
    return validate(_typed("", plain, Config))


def load(path: str | Path = "params.yaml") -> Config:
    """Read and validate ``params.yaml``.

    Raises
    ------
    InputError
        If the file is missing, no YAML, or holds an unknown key or an impossible value.
    """
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        # What is written out holds none, and a few nested ones can stand for any amount of memory.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CSafeLoader)):
            raise InputError("params.yaml", str(path), "YAML without aliases (*name)")
        values = OmegaConf.load(path)
    except FileNotFoundError:
        raise InputError(
            "params.yaml", str(path), "an existing file; `lrrt compose` writes it"
        ) from None
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError("params.yaml", str(path), f"readable YAML ({reason})") from None
    if not OmegaConf.is_dict(values):
        raise InputError("params.yaml", str(path), "a mapping of sections")
    return from_mapping(values)
