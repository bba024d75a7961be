"""What is possible: every value of a configuration is checked here, once, at the edge."""

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from lrrt import plugins
from lrrt.config.schema import (
    CHOICES,
    FACTORS,
    Config,
    DivergenceConfig,
    PairsConfig,
    ProtocolConfig,
    RampConfig,
    StudyConfig,
)
from lrrt.errors import InputError

# Learning rates and clipping norms keep far from the ends of float32 (1e-38 to 3e38), which both
# frameworks compute in.
SMALLEST, LARGEST = 1e-30, 1e30

# What the analysis and the report say of a sweep by its name (the rest of it is in conf/sweep/):
# those of batch sizes apart, all are at the batch size, steps and first seed of the section sweep.
_NEW = {"new_weights": True, "new_order": True, "whole_epoch": False, "validation": "none"}
_SAME_WEIGHTS = _NEW | {"new_weights": False}
KINDS = {
    "weights": _NEW,
    "order": _SAME_WEIGHTS,
    "rounding": _NEW,
    "rounding_order": _SAME_WEIGHTS,
    "validation": _NEW | {"validation": "running"},
    "validation_batch": _NEW | {"validation": "batch"},
    "batch_size": _NEW,
    "batch_size_epoch": _NEW | {"whole_epoch": True},
}
OF_BATCH_SIZES = ("batch_size", "batch_size_epoch")


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


def _check_devices(prefix: str, devices: dict[str, str]) -> None:
    for backend, device in devices.items():
        plugins.check("lrrt.backends", backend, prefix)
        known = CHOICES["device"]
        if device not in known:
            raise InputError(f"{prefix}.{backend}", device, f"one of: {', '.join(known)}")


def _check_limits(prefix: str, limits: dict[str, int], protocols: Iterable[str]) -> None:
    for case, limit in limits.items():
        backend, _, protocol = case.partition("-")
        plugins.check("lrrt.backends", backend, prefix)
        if protocol not in protocols:
            words = f"<backend>-<protocol>, the latter of: {', '.join(protocols)}"
            raise InputError(prefix, case, words)
        check_range(f"{prefix}.{case}", limit, 1, 100_000)


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
    optimizer = plugins.find("lrrt.core.optimizers", protocol.optimizer, f"{prefix}.optimizer")
    for name in ("momentum", "beta1"):
        check_range(f"{prefix}.{name}", getattr(protocol, name), 0, 0.9999)
    check_range(f"{prefix}.beta2", protocol.beta2, 0, 0.999999)
    check_range(f"{prefix}.epsilon", protocol.epsilon, 1e-16, 1)
    check_range(f"{prefix}.batch_norm_momentum", protocol.batch_norm_momentum, 0, 1)
    check_range(f"{prefix}.batch_norm_epsilon", protocol.batch_norm_epsilon, 1e-12, 1)
    if protocol.gradient_clip is not None:
        check_range(f"{prefix}.gradient_clip", protocol.gradient_clip, SMALLEST, LARGEST)
    _check_choices(f"{prefix}.weight_decay", protocol.weight_decay)
    for name in ("value", "conv_factor", "dense_factor", "other_factor"):
        value = getattr(protocol.weight_decay, name)
        check_range(f"{prefix}.weight_decay.{name}", value, 0, 1e6)
    optimizer.validate(prefix, protocol)
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


def _check_has_weights(study: StudyConfig, section: str) -> None:
    if "weights" not in study.sweeps:
        words = f"a list with 'weights', which {section} needs"
        raise InputError("study.sweeps", study.sweeps, words)


def _check_swept(config: Config, key: str, protocol: str, runs: str) -> None:
    """A protocol at the scale of the weights sweep; ``runs``: the key that asks for it."""
    section, name = runs.split(".")
    _check_has_weights(config.study, section)
    if protocol not in config.protocols:
        raise InputError(key, protocol, f"one of: {', '.join(sorted(config.protocols))}")
    whole = config.data.train_images // config.sweep.batch_size
    if not config.sweep.steps and not config.protocols[protocol].ramp.steps and whole < 10:
        raise InputError(
            runs,
            getattr(getattr(config, section), name),
            "0; an epoch has fewer than 10 whole batches of sweep.batch_size",
        )


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
        raise InputError(f"{prefix}.depth", settings.depth, error.expected) from None


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
    for name, labels in (  # as lrrt.runs.probes.variants names them
        ("steps", settings.steps),
        ("ranges", [f"{start:g} to {end:g}" for start, end in settings.ranges]),
        ("shapes", settings.shapes),
    ):
        if len(set(labels)) != len(labels):
            listed = ", ".join(map(str, labels))
            raise InputError(
                f"{prefix}.{name}", getattr(settings, name), f"each once (these are: {listed})"
            )
    check_range(f"{prefix}.restarts", settings.restarts, 0, 1000)
    check_range(f"{prefix}.restart_steps", settings.restart_steps, 10, 100_000)


def validate_mechanism(config: Config) -> None:
    settings = config.mechanism
    _validate_probed(config, "mechanism", settings)
    check_range("mechanism.points", settings.points, 1, 100_000)


def validate_study(config: Config) -> None:
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


def validate_data(config: Config) -> None:
    data = config.data
    dataset = plugins.find("lrrt.datasets", data.name, "data.name")
    if data.path is not None and not (data.path.strip() and data.path.isprintable()):
        raise InputError("data.path", data.path, "a path of printable characters, or null")
    check_range("data.train_images", data.train_images, 10, 1_000_000)
    check_range("data.test_images", data.test_images, 10, 1_000_000)
    check_range("data.seed", data.seed, 0, 2**63 - 1)
    if hasattr(dataset, "validate"):
        dataset.validate(data)


def validate_model(config: Config) -> None:
    plugins.find("lrrt.core.networks", config.model.name, "model.name").validate(config.model)


def validate_defaults(config: Config) -> None:
    """The section ``sweep``."""
    sweep, prefix = config.sweep, "sweep"
    check_range(f"{prefix}.runs", sweep.runs, 1, 100_000)
    check_range(f"{prefix}.crossed_runs", sweep.crossed_runs, 0, 100_000)
    check_range(f"{prefix}.batch_size", sweep.batch_size, 1, config.data.train_images)
    if sweep.steps is not None:
        check_range(f"{prefix}.steps", sweep.steps, 10, 100_000)
    check_range(f"{prefix}.seed", sweep.seed, 0, 2**62)
    _check_choices(prefix, sweep)
    _check_devices(f"{prefix}.devices", sweep.devices)


def validate_sweep(config: Config, name: str) -> None:
    sweep, prefix = config.sweeps[name], f"sweeps.{name}"
    _check_choices(prefix, sweep)
    check_range(f"{prefix}.runs", sweep.runs, 1, 100_000)
    check_range(f"{prefix}.crossed_runs", sweep.crossed_runs, 0, 100_000)
    check_range(f"{prefix}.seed", sweep.seed, 0, 2**62)
    if not sweep.batch_sizes:
        raise InputError(f"{prefix}.batch_sizes", sweep.batch_sizes, "at least one batch size")
    limit = config.data.train_images if name in config.study.sweeps else math.inf
    for size in sweep.batch_sizes:
        check_range(f"{prefix}.batch_sizes", size, 1, limit)
    if sweep.steps is not None:
        check_range(f"{prefix}.steps", sweep.steps, 10, 100_000)
        if sweep.whole_epoch:
            raise InputError(f"{prefix}.steps", sweep.steps, "null where whole_epoch is true")
    if sweep.backends is not None:
        _check_listed(f"{prefix}.backends", sweep.backends)
        for backend in sweep.backends:
            plugins.check("lrrt.backends", backend, f"{prefix}.backends")
    _check_limits(f"{prefix}.limits", sweep.limits, config.protocols)
    _check_devices(f"{prefix}.devices", sweep.devices)
    if name in config.study.sweeps:
        _check_planned(config, name)


def _check_planned(config: Config, name: str) -> None:
    """A sweep that the study has: its epochs, its backends, and that it is what it is called."""
    study, sweep, prefix = config.study, config.sweeps[name], f"sweeps.{name}"
    ramps = [config.protocols[protocol].ramp for protocol in study.protocols]
    fixed = not sweep.whole_epoch and all(sweep.steps or ramp.steps for ramp in ramps)
    largest, images = max(sweep.batch_sizes), config.data.train_images
    if not fixed and images // largest < 10:
        words = f"at most {images // 10}: an epoch must have 10 whole batches"
        raise InputError(f"{prefix}.batch_sizes", largest, words)
    if not any(case[2] == name for case in config.cases):
        words = f"one of study.backends = {study.backends}, or null for all"
        raise InputError(f"{prefix}.backends", sweep.backends, words)
    wanted = dict(KINDS.get(name, {}))
    if wanted and name not in OF_BATCH_SIZES:
        scale = config.sweep
        wanted |= {"batch_sizes": [scale.batch_size], "steps": scale.steps, "seed": scale.seed}
    for key, value in wanted.items():
        if getattr(sweep, key) != value:
            words = f"{value}, as conf/sweep/{name}.yaml and the section sweep say, or another name"
            raise InputError(f"{prefix}.{key}", getattr(sweep, key), words)
    if name == "batch_size" and not fixed and len(set(sweep.batch_sizes)) > 1:
        words = "a number, the same steps at all batch sizes (batch_size_epoch: an epoch each)"
        raise InputError(f"{prefix}.steps", sweep.steps, words)


def _check_cases(cases: list[PairsConfig], study: StudyConfig) -> None:
    known = [f"{backend}-{name}" for backend in study.backends for name in study.protocols]
    for i, asked in enumerate(cases):
        key = f"divergence.cases[{i}]"
        if asked.case not in known or asked.case in (other.case for other in cases[:i]):
            words = f"<backend>-<protocol>, none twice, of: {', '.join(known)}"
            raise InputError(f"{key}.case", asked.case, words)
        check_range(f"{key}.pairs", asked.pairs, 1, 10_000)
        for name in ("swaps", "grids"):
            count = getattr(asked, name)
            if not 0 <= count <= asked.pairs:
                words = f"a number from 0 to {key}.pairs = {asked.pairs}"
                raise InputError(f"{key}.{name}", count, words)


def _check_policies(divergence: DivergenceConfig) -> None:
    key, policies = "divergence.policies", divergence.policies
    known = [name for name in plugins.names("lrrt.runs.policies") if name != "constant"]
    if set(policies) - set(known) or len(set(policies)) != len(policies):
        words = f"none twice, of: {', '.join(known)} (constant is trained in any case)"
        raise InputError(key, policies, words)
    if policies and divergence.cases and not any(asked.grids for asked in divergence.cases):
        raise InputError(key, policies, "[] where no case of divergence.cases has grids")


def validate_divergence(config: Config) -> None:
    study, divergence = config.study, config.divergence
    _check_choices("divergence", divergence)
    _check_devices("divergence.devices", divergence.devices)
    check_range("divergence.epochs", divergence.epochs, 1, 10_000)
    check_range("divergence.transfer_epochs", divergence.transfer_epochs, 1, 10_000)
    if divergence.steps_per_epoch is not None:
        check_range("divergence.steps_per_epoch", divergence.steps_per_epoch, 1, 1_000_000)
    check_range("divergence.reference_lr", divergence.reference_lr, 1e-12, 1e6)
    _check_cases(divergence.cases, study)
    _check_policies(divergence)
    if divergence.cases:
        _check_has_weights(study, "divergence")
    for asked in divergence.cases:
        (backend, protocol), weights = asked.names, config.sweeps["weights"]
        name = "runs" if config.protocols[protocol].home == backend else "crossed_runs"
        name = f"limits.{asked.case}" if asked.case in weights.limits else name
        if not weights.runs_on(backend):
            words = f"with {backend}, which divergence.cases asks for"
            raise InputError("sweeps.weights.backends", weights.backends, words)
        runs = weights.count(backend, protocol, config.protocols[protocol].home)
        if runs * len(weights.batch_sizes) < 2:
            words = f"at least 2, or divergence.cases without {asked.case}"
            raise InputError(f"sweeps.weights.{name}", runs, words)


def validate_report(config: Config) -> None:
    report = config.report
    for name, text in (("title", report.title), ("note", report.note)):
        if text is not None and not (text.strip() and text.isprintable()):
            raise InputError(f"report.{name}", text, "a line of printable characters")
    low, high = (report.loss_quantiles + [math.nan] * 2)[:2]
    if len(report.loss_quantiles) != 2 or not 0 <= low < high <= 1:
        words = "two numbers, 0 <= low < high <= 1"
        raise InputError("report.loss_quantiles", report.loss_quantiles, words)
    check_range("report.dpi", report.dpi, 20, 1200)
    check_range("report.bootstrap_resamples", report.bootstrap_resamples, 100, 1_000_000)


def validate_launcher(config: Config) -> None:
    launcher = config.launcher
    if launcher.workers is not None:
        check_range("launcher.workers", launcher.workers, 1, 4096)
    check_range("launcher.threads", launcher.threads, 1, 1024)
    _check_choices("launcher", launcher)
    plugins.check("lrrt.runs.launchers", launcher.name, "launcher.name")
    if launcher.options:
        module = plugins.find("lrrt.runs.launchers", launcher.name, "launcher.name")
        if hasattr(module, "validate"):
            module.validate(launcher)


def validate(config: Config) -> Config:
    """Check every value against what is possible.

    Raises
    ------
    InputError
        For the first key that is not; nothing has been written by then.
    """
    validate_study(config)
    validate_data(config)
    validate_model(config)
    for name, protocol in config.protocols.items():
        validate_protocol(f"protocols.{name}", protocol)
    validate_defaults(config)
    for name in config.sweeps:
        validate_sweep(config, name)
    validate_divergence(config)
    validate_attribution(config)
    validate_variance(config)
    validate_instrument(config)
    validate_mechanism(config)
    validate_report(config)
    validate_launcher(config)
    return config
