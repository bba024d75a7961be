"""``lrrt audit``, ``suggest``, ``rules`` and ``compare``.

Only ``argparse`` is imported until one of them runs, so that ``lrrt --help`` is quick.
"""

import argparse
import inspect
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lrrt.errors import InputError

COLUMNS_HELP = "default: the usual names (lr, lrs, learning_rate; loss, losses, train_loss)"
AUDIT_DESCRIPTION = """\
Repeat the range test on a model of yours over weights and orders of the data, and say how far to
trust the suggested learning rate.

  lrrt audit my_package.my_module:make_model my_package.my_module:make_data
  lrrt audit --config audit.yaml

make_model() returns a compiled Keras model, or for PyTorch (model, optimizer, loss); make_data()
returns batches, a DataLoader, a tf.data set, or {"data": (x, y), "batch_size": 32}. The
configuration is Hydra's (any key is a parameter of lrrt.audit or lrrt.range_test):

  model: {_target_: my_package.my_module.make_model, width: 64}
  data: {_target_: my_package.my_module.make_data}
  runs: 10
"""


def add(commands: Any) -> None:
    """Add the commands to ``commands``, the subparsers of ``lrrt``."""
    plain = argparse.RawDescriptionHelpFormatter
    auditing = commands.add_parser(
        "audit",
        help="how far to trust the finder on your own model",
        description=AUDIT_DESCRIPTION,
        formatter_class=plain,
    )
    auditing.add_argument("make_model", nargs="?", metavar="module:make_model")
    auditing.add_argument(
        "make_data",
        nargs="?",
        metavar="module:make_data",
        help="default: make_data of the same module",
    )
    auditing.add_argument("--config", metavar="FILE", help="YAML instead, see above")
    auditing.add_argument("--runs", type=int, help="range tests; default 10")
    auditing.add_argument("--rule", help="one of `lrrt rules`; default fastai_valley")
    auditing.add_argument(
        "--vary", help="what differs from run to run: both (default), weights or order"
    )
    auditing.add_argument("--seed", type=int, help="of the first run; default 0")
    auditing.add_argument("--start", type=float, help="first learning rate; default 1e-7")
    auditing.add_argument("--end", type=float, help="last learning rate; default 10")
    auditing.add_argument(
        "--steps", type=int, help="steps of a range test, at least 10; default 100"
    )
    auditing.add_argument(
        "--train-steps",
        type=int,
        dest="train_steps",
        metavar="N",
        help="also train for N steps at the suggestion, a tenth of it and ten times it",
    )
    auditing.add_argument("--report", metavar="FILE", help="write a page, FILE.html")
    auditing.add_argument(
        "--save", metavar="FILE", help="write everything, FILE.json; after each run what there is"
    )
    suggesting = commands.add_parser(
        "suggest",
        help="what a rule says about curves recorded elsewhere",
        description="Apply a rule to recorded curves: CSV, TSV or JSON with a learning rate and a "
        "loss for each step, as fastai, torch-lr-finder, Lightning, Keras and this package give "
        "them.",
    )
    comparing = commands.add_parser(
        "compare",
        help="what all rules say about curves",
        description="Apply every rule to one or more recorded curves.",
    )
    for parser in (suggesting, comparing):
        parser.add_argument("files", nargs="+", metavar="FILE", help="- for standard input")
        parser.add_argument(
            "--from",
            dest="source",
            default="raw",
            metavar="TOOL",
            help="who recorded it, to undo its smoothing: fastai, torch_lr_finder, ignite, "
            "lightning, ktrain, keras_lr_finder, keras; default raw: not smoothed",
        )
        parser.add_argument("--lr", metavar="COLUMN", help=COLUMNS_HELP)
        parser.add_argument("--loss", metavar="COLUMN", help="likewise")
        parser.add_argument(
            "--steps", type=int, help="steps that the test was to have, if it ended early"
        )
    suggesting.add_argument(
        "--rule",
        action="append",
        help="one of `lrrt rules`, may be repeated; default fastai_valley",
    )
    listing = commands.add_parser("rules", help="the rules, a line each")
    for parser in (auditing, suggesting, comparing, listing):
        parser.add_argument("--json", action="store_true", help="machine-readable, on stdout")


def run(options: argparse.Namespace) -> None:
    """Carry out the command that ``options`` name."""
    {"audit": _audit, "suggest": _suggest, "rules": _rules, "compare": _compare}[options.command](
        options
    )


COMMANDS = ("audit", "suggest", "rules", "compare")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _rules(options: argparse.Namespace) -> None:
    from lrrt.finder import rules

    described = {name: _described(rules.find(name)) for name in rules.names()}
    if options.json:
        _print_json(described)
        return
    width = max(map(len, described))
    for name, text in described.items():
        print(f"{name:{width}}  {text}")


def _described(rule: Any) -> str:
    """The first sentence of the rule's docstring."""
    text = rule.__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].split()).rstrip(".").replace("``", "")


def _curves(options: argparse.Namespace) -> dict[str, Any]:
    from lrrt.finder.recorded_curves import load

    found = {}
    for file in options.files:
        found[file] = load(file, options.source, options.lr, options.loss, options.steps)
        for note in found[file].notes:
            print(f"{file}: {note}", file=sys.stderr)
    return found


def _suggest(options: argparse.Namespace) -> None:
    from lrrt.finder.rules import DEFAULT_RULE

    rules = options.rule or [DEFAULT_RULE]
    curves = _curves(options)
    told = {file: {rule: curve.suggest(rule) for rule in rules} for file, curve in curves.items()}
    if options.json:
        _print_json(_as_json(told))
        return
    for file, suggestions in told.items():
        for suggestion in suggestions.values():
            print(f"{file}: {suggestion}" if len(told) > 1 else suggestion)


def _compare(options: argparse.Namespace) -> None:
    curves = _curves(options)
    told = {file: curve.compare() for file, curve in curves.items()}
    if options.json:
        _print_json(_as_json(told))
        return
    files = list(told)
    if len(files) == 1:
        flaw = curves[files[0]].flaw  # of all rules alike, so said once
        rows = [
            [
                s.rule,
                _rate(s.min_lr),
                _rate(s.max_lr),
                s.reason or "; ".join(caution for caution in s.cautions if caution != flaw),
            ]
            for s in told[files[0]].values()
        ]
        _print_table(["rule", "min LR", "max LR", ""], rows)
    else:
        rows = [[rule, *(_rate(told[file][rule].lr) for file in files)] for rule in told[files[0]]]
        stems = [Path(file).stem for file in files]
        _print_table(["rule", *(stems if len(set(stems)) == len(files) else files)], rows)
    for file, curve in curves.items():
        if curve.flaw:
            print(f"{file}: {curve.flaw}")


def _as_json(told: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        file: {rule: vars(s) | {"lr": s.lr} for rule, s in suggestions.items()}
        for file, suggestions in told.items()
    }


def _rate(lr: float | None) -> str:
    return "-" if lr is None else f"{lr:.2g}"


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())


def _audit(options: argparse.Namespace) -> None:
    from lrrt.finder.checks import check_target

    arguments = _audit_arguments(options)
    if options.report is not None:
        check_target("--report", options.report, ".html")
    if options.save is not None:
        check_target("--save", options.save, ".json")
    for package in ("jinja2", "matplotlib") if options.report is not None else ():
        if find_spec(package) is None:
            raise InputError(
                "--report", options.report, "it left out; `pip install 'lrrt[report]'`"
            )
    from lrrt.finder.audit import audit

    found = audit(**arguments)
    if options.json:
        _print_json(found.to_dict())
    else:
        print(found, flush=True)
    if options.report is not None:
        found.report(options.report)
        if not options.json:
            print(f"report: {options.report}")


GIVEN = ("runs", "rule", "vary", "seed", "start", "end", "steps", "train_steps", "save")


def _audit_arguments(options: argparse.Namespace) -> dict[str, Any]:
    # As `python -m` would: the user's module lies in the working directory.
    sys.path.insert(0, "")
    arguments: dict[str, Any] = {}
    if options.config is not None:
        if options.make_model is not None:
            raise InputError("make_model", options.make_model, "left out beside --config")
        arguments = _configured(Path(options.config))
    elif options.make_model is None:
        raise InputError("make_model", None, "module:function, or --config FILE")
    else:
        module = options.make_model.partition(":")[0]
        arguments["make_model"] = _found("make_model", options.make_model)
        arguments["make_data"] = _found("make_data", options.make_data or f"{module}:make_data")
    given = {name: getattr(options, name) for name in GIVEN}
    return arguments | {name: value for name, value in given.items() if value is not None}


def _found(key: str, name: str) -> Any:
    """The function ``package.module:function``."""
    import importlib

    module_name, colon, function = name.partition(":")
    if not colon or not function or "/" in module_name or not all(module_name.split(".")):
        raise InputError(key, name, "package.module:function")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Not its own: a module that it imports and lacks is the user's to see in full.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise InputError(key, name, f"a module that can be imported ({error})") from None
    value = module
    for part in function.split("."):
        if not hasattr(value, part):
            raise InputError(key, name, f"a function of {module_name}")
        value = getattr(value, part)
    if not callable(value):
        raise InputError(key, name, "a function")
    return value


def _configured(path: Path) -> dict[str, Any]:
    """Arguments of :func:`lrrt.audit` from a YAML file with Hydra's ``_target_``."""
    try:
        from hydra.errors import HydraException
        from hydra.utils import instantiate
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException
    except ImportError:
        raise InputError("--config", str(path), "used where hydra-core is installed") from None
    import yaml

    try:
        config = OmegaConf.load(path)
        plain = OmegaConf.to_container(config, resolve=True)
    except FileNotFoundError:
        raise InputError("--config", str(path), "an existing file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError("--config", str(path), f"YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(plain, dict):
        raise InputError("--config", str(path), "a mapping with model and data")
    arguments = {}
    for key in ("model", "data"):
        target = plain.pop(key, None)
        if not isinstance(target, dict) or "_target_" not in target:
            raise InputError(key, target, "a mapping with _target_: package.module.function")
        try:
            make = arguments[f"make_{key}"] = instantiate(target | {"_partial_": True})
            inspect.signature(make.func).bind_partial(*make.args, **make.keywords)
        except HydraException as error:
            raise InputError(
                f"{key}._target_",
                target["_target_"],
                f"a function that can be imported ({_innermost(error)})",
            ) from None
        except TypeError as error:
            raise InputError(key, target, f"parameters of its function ({error})") from None
    for name, value in plain.items():
        try:
            arguments[name] = instantiate(value) if isinstance(value, dict) else value
        except HydraException as error:
            raise InputError(name, value, f"what can be made ({_innermost(error)})") from None
    return arguments


def _innermost(error: BaseException) -> str:
    """In a line, what an error of Hydra's comes from."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    while isinstance(cause.__context__, AttributeError):
        cause = cause.__context__  # a name that a module lacks, then sought as a module within
    line = " ".join(str(cause).split())
    return line if cause is error else f"{type(cause).__name__}: {line}"
