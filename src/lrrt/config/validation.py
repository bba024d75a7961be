"""What is possible: every value of a configuration is checked here, once, at the edge."""

import itertools
import math
import re
from collections.abc import Iterable

from lrrt import plugins
from lrrt.config.schema import SECTIONS, Config
from lrrt.core import networks
from lrrt.core.checks import (
    check_data,
    check_devices,
    check_fields,
    check_listed,
    check_names,
    check_ramp,
    check_range,
)
from lrrt.core.protocol import Protocol
from lrrt.errors import InputError

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


def _check_limits(prefix: str, limits: dict[str, int], protocols: Iterable[str]) -> None:
    for case, limit in limits.items():
        backend, _, protocol = case.partition("-")
        plugins.check("lrrt.backends", backend, prefix)
        if protocol not in protocols:
            words = f"<backend>-<protocol>, the latter of: {', '.join(protocols)}"
            raise InputError(prefix, case, words)
        check_range(f"{prefix}.{case}", limit, 1, 100_000)


def validate_protocol(prefix: str, protocol: Protocol) -> None:
    check_fields(prefix, protocol)
    plugins.check("lrrt.core.rules", protocol.rule, f"{prefix}.rule")
    plugins.check("lrrt.backends", protocol.home, f"{prefix}.home")
    optimizer = plugins.find("lrrt.core.optimizers", protocol.optimizer, f"{prefix}.optimizer")
    check_fields(f"{prefix}.weight_decay", protocol.weight_decay)
    optimizer.validate(prefix, protocol)
    check_ramp(f"{prefix}.ramp", protocol.ramp)


def check_study_name(key: str, name: str) -> None:
    if not re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", name):
        raise InputError(key, name, "1 to 64 letters, digits, '-' (not first), '_'")


def validate_study(config: Config) -> None:
    study = config.study
    check_study_name("study.name", study.name)
    check_names("protocols", config.protocols)
    check_names("sweeps", config.sweeps)
    for key, listed, known in (
        ("study.backends", study.backends, plugins.names("lrrt.backends")),
        ("study.protocols", study.protocols, sorted(config.protocols)),
        ("study.sweeps", study.sweeps, sorted(config.sweeps)),
    ):
        check_listed(key, listed)
        for name in listed:
            if name not in known:
                section = key.removeprefix("study.")
                none = f"a name that the section {section} defines; it defines none"
                raise InputError(key, name, f"one of: {', '.join(known)}" if known else none)


def _check_optimizers(config: Config) -> None:
    """That each backend of the study has the optimisers of its protocols."""
    for name, backend in itertools.product(config.study.protocols, config.study.backends):
        used = config.protocols[name].optimizer
        offered = getattr(plugins.find("lrrt.core.optimizers", used, "optimizer"), "BACKENDS", None)
        if offered and backend not in offered:
            words = f"{', '.join(offered)} with protocols.{name}.optimizer = {used}"
            raise InputError("study.backends", backend, words)


def validate_model(config: Config) -> None:
    """The network by itself, with the data, and on each backend of the study."""
    network, data = networks.module_of(config.model), config.data.name
    networks.check(config.model)
    given = getattr(plugins.find("lrrt.datasets", data, "data.name"), "GIVES", "images")
    wanted = networks.input_of(network)
    if wanted != given:
        words = f"a network of {given}; data.name = {data} gives no {wanted}"
        raise InputError("model.name", config.model.name, words)
    for backend in config.study.backends:
        if backend not in getattr(network, "BACKENDS", [backend]):
            words = f"{', '.join(network.BACKENDS)} with model.name = {config.model.name}"
            raise InputError("study.backends", backend, words)
    for name in config.study.protocols if given == "tokens" else []:
        protocol = config.protocols[name]
        for key, neutral in (("augmentation", "none"), ("flip", False)):
            if getattr(protocol, key) != neutral:
                words = f"{str(neutral).lower()}; data.name = {data} gives tokens, not images"
                raise InputError(f"protocols.{name}.{key}", getattr(protocol, key), words)


def validate_defaults(config: Config) -> None:
    """The section ``sweep``."""
    sweep, prefix = config.sweep, "sweep"
    check_range(f"{prefix}.batch_size", sweep.batch_size, 1, config.data.train_images)
    check_fields(prefix, sweep)
    check_devices(f"{prefix}.devices", sweep.devices)


def validate_sweep(config: Config, name: str) -> None:
    sweep, prefix = config.sweeps[name], f"sweeps.{name}"
    check_fields(prefix, sweep)
    if not sweep.batch_sizes:
        raise InputError(f"{prefix}.batch_sizes", sweep.batch_sizes, "at least one batch size")
    limit = config.data.train_images if name in config.study.sweeps else math.inf
    for size in sweep.batch_sizes:
        check_range(f"{prefix}.batch_sizes", size, 1, limit)
    if sweep.steps is not None and sweep.whole_epoch:
        raise InputError(f"{prefix}.steps", sweep.steps, "null where whole_epoch is true")
    if sweep.backends is not None:
        check_listed(f"{prefix}.backends", sweep.backends)
        for backend in sweep.backends:
            plugins.check("lrrt.backends", backend, f"{prefix}.backends")
    _check_limits(f"{prefix}.limits", sweep.limits, config.protocols)
    check_devices(f"{prefix}.devices", sweep.devices)
    if name in config.study.sweeps:
        _check_used_sweep(config, name)


def _check_used_sweep(config: Config, name: str) -> None:
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


def validate_report(config: Config) -> None:
    report = config.report
    check_fields("report", report)
    for name, text in (("title", report.title), ("note", report.note)):
        if text is not None and not (text.strip() and text.isprintable()):
            raise InputError(f"report.{name}", text, "a line of printable characters")
    low, high = (report.loss_quantiles + [math.nan] * 2)[:2]
    if len(report.loss_quantiles) != 2 or not 0 <= low < high <= 1:
        words = "two numbers, 0 <= low < high <= 1"
        raise InputError("report.loss_quantiles", report.loss_quantiles, words)
    other = "at most one study, another than this one"
    if len(report.beside) > 1 or config.study.name in report.beside:
        raise InputError("report.beside", report.beside, other)
    for name in report.beside:
        check_study_name("report.beside", name)


def validate_launcher(config: Config) -> None:
    launcher = config.launcher
    check_fields("launcher", launcher)
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
    check_data("data", config.data)
    validate_model(config)
    for name, protocol in config.protocols.items():
        validate_protocol(f"protocols.{name}", protocol)
    _check_optimizers(config)
    validate_defaults(config)
    for name in config.sweeps:
        validate_sweep(config, name)
    for section in SECTIONS.values():
        section.check(config)
    validate_report(config)
    validate_launcher(config)
    return config
