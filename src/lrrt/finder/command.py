"""``lrrt audit``, ``suggest``, ``rules`` and ``compare``.

Only ``argparse`` is imported until one of them runs, so that ``lrrt --help`` is quick: the options
of a command are made from the functions that it calls, when its own arguments are parsed.
"""

import argparse
import inspect
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lrrt.errors import InputError

AUDIT_DESCRIPTION = """\
Repeat the range test on your model with new weights and orders of the data, and say what to train
at and how far to trust that.

  lrrt audit my_package.my_module:make_model my_package.my_module:make_data
  lrrt audit --config audit.yaml

make_model() returns a compiled Keras model, or for PyTorch (model, optimizer, loss); make_data()
returns batches, a DataLoader, a tf.data set, or {"data": (x, y), "batch_size": 32}. The
configuration is Hydra's (any key is a parameter of lrrt.audit or lrrt.range_test):

  model: {_target_: my_package.my_module.make_model, width: 64}
  data: {_target_: my_package.my_module.make_data}
  runs: 10
"""
OF_AUDIT = (
    "runs",
    "rule",
    "vary",
    "seed",
    "train_steps",
    "schedule",
    "offset",
    "workers",
    "save",
)
OF_TEST = ("start", "end", "steps")
OF_SUGGESTION = ("offset", "skip_begin", "skip_end")


def add(commands: Any) -> None:
    """Add the commands to ``commands``, the subparsers of ``lrrt``."""
    for name, (fill, _, help_, description) in COMMANDS.items():
        parser = commands.add_parser(
            name,
            help=help_,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.parse_known_args = _filled_first(parser, fill)


def _filled_first(parser: argparse.ArgumentParser, fill: Callable) -> Callable:
    """``parser.parse_known_args``, the options added when it is first called: once the command is
    chosen."""
    parse = parser.parse_known_args

    def filled(*args: Any, **more: Any) -> Any:
        fill(parser)
        parser.parse_known_args = parse
        return parse(*args, **more)

    return filled


def run(options: argparse.Namespace) -> None:
    """Carry out the command that ``options`` name."""
    COMMANDS[options.command][1](options)


def _audit_options(parser: argparse.ArgumentParser) -> None:
    from lrrt.finder.audit import audit
    from lrrt.finder.range_test import range_test

    parser.add_argument("make_model", nargs="?", metavar="module:make_model")
    parser.add_argument(
        "make_data", nargs="?", metavar="module:make_data", help="Default: of the same module."
    )
    parser.add_argument("--config", metavar="FILE", help="YAML instead, see above.")
    _add_options(parser, audit, *OF_AUDIT)
    _add_options(parser, range_test, *OF_TEST)
    parser.add_argument("--report", metavar="FILE", help="Write a page, FILE.html.")
    _json_option(parser)


def _suggest_options(parser: argparse.ArgumentParser) -> None:
    from lrrt.finder.curve import Curve

    _curve_options(parser)
    parser.add_argument("--rule", action="append", help="One of `lrrt rules`, may be repeated.")
    _add_options(parser, Curve.suggest, *OF_SUGGESTION)
    _json_option(parser)


def _compare_options(parser: argparse.ArgumentParser) -> None:
    from lrrt.finder.curve import Curve

    _curve_options(parser)
    _add_options(parser, Curve.suggest, "offset")
    _json_option(parser)


def _curve_options(parser: argparse.ArgumentParser) -> None:
    from lrrt.finder.recorded_curves import TOOLS, load

    parser.add_argument("files", nargs="+", metavar="FILE", help="- for standard input")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="TOOL",
        help=f"Who recorded it, to undo its smoothing: {', '.join(TOOLS)}. Default: raw, unless it "
        "is seen to be ignite's.",
    )
    _add_options(parser, load, "lr", "loss", "steps")


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Machine-readable, on stdout.")


def _add_options(parser: argparse.ArgumentParser, function: Callable, *names: str) -> None:
    """Options for parameters of a function: type and default from its signature, help from the
    first sentence of its docstring. An option that is not given is None."""
    parameters, documented = inspect.signature(function).parameters, _parameter_docs(function)
    for name in names:
        default, kind = parameters[name].default, str(parameters[name].annotation)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=next((of for of in (int, float) if of.__name__ in kind), str),
            metavar="FILE" if "Path" in kind else "COLUMN" if name in ("lr", "loss") else None,
            help=documented[name] + (f" Default: {default}." if default else ""),
        )


def _parameter_docs(function: Callable) -> dict[str, str]:
    """The first sentence on each parameter in a docstring; those named together share it."""
    found = {}
    text = inspect.cleandoc(function.__doc__ or "").partition("\nParameters\n")[2]
    for names, words in re.findall(r"^(\w[\w, ]*?)(?: :.*)?\n((?: {4}.*\n?)+)", text, re.M):
        sentence = re.match(r".*?(?:\.(?= |$)|$)", " ".join(words.split()))[0]
        plain = re.sub(r":\w+:`~?([^`]+)`", r"\1", sentence).replace("``", "").replace("%", "%%")
        found |= dict.fromkeys(names.split(", "), plain)
    return found


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _rules(options: argparse.Namespace) -> None:
    from lrrt.finder import rules

    described = {name: _describe(rules.find(name)) for name in rules.names()}
    if options.json:
        _print_json(described)
        return
    width = max(map(len, described))
    for name, text in described.items():
        print(f"{name:{width}}  {text}")


def _describe(rule: Any) -> str:
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

    rules, given = options.rule or [DEFAULT_RULE], _given_options(options, OF_SUGGESTION)
    curves = _curves(options)
    found = {
        file: {rule: curve.suggest(rule, **given) for rule in rules}
        for file, curve in curves.items()
    }
    if options.json:
        _print_json(_as_json(found))
        return
    for file, suggestions in found.items():
        for suggestion in suggestions.values():
            print(f"{file}: {suggestion}" if len(found) > 1 else suggestion)
    _print_offsets(curves, found)


def _compare(options: argparse.Namespace) -> None:
    curves = _curves(options)
    given = _given_options(options, ("offset",))
    found = {file: curve.compare(**given) for file, curve in curves.items()}
    if options.json:
        _print_json(_as_json(found))
        return
    files = list(found)
    if len(files) == 1:
        flaw = curves[files[0]].flaw  # of all rules alike, so said once
        rows = [
            [
                s.rule,
                _rate(s.min_lr),
                _rate(s.max_lr),
                s.reason or "; ".join(caution for caution in s.cautions if caution != flaw),
            ]
            for s in found[files[0]].values()
        ]
        _print_table(["rule", "min LR", "max LR", ""], rows)
    else:
        rows = [
            [rule, *(_rate(found[file][rule].lr) for file in files)] for rule in found[files[0]]
        ]
        stems = [Path(file).stem for file in files]
        _print_table(["rule", *(stems if len(set(stems)) == len(files) else files)], rows)
    for file, curve in curves.items():
        if curve.flaw:
            print(f"{file}: {curve.flaw}")
    _print_offsets(curves, found)


def _print_offsets(curves: dict[str, Any], found: dict[str, dict[str, Any]]) -> None:
    """An offset that would serve, for each curve whose loss needs one."""
    from lrrt.finder.curve import SIGNED

    for file, suggestions in found.items():
        said = [s for s in suggestions.values() if SIGNED in s.cautions or SIGNED in s.reason]
        if said:
            print(f"{file}: try --offset {curves[file].needed_offset:.2g}")


def _given_options(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the options that were given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _as_json(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        file: {rule: vars(s) | {"lr": s.lr} for rule, s in suggestions.items()}
        for file, suggestions in found.items()
    }


def _rate(lr: float | None) -> str:
    return "-" if lr is None else f"{lr:.2g}"


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())


def _audit(options: argparse.Namespace) -> None:
    from lrrt.finder.checks import PAGES, check_target

    arguments = _audit_arguments(options)
    if options.report is not None:
        check_target("--report", options.report, *PAGES)
    if options.save is not None:
        check_target("--save", options.save, ".json")
    for package in ("jinja2", "matplotlib") if options.report is not None else ():
        if find_spec(package) is None:
            wanted = f"an environment with {package}; `pip install 'lrrt[report]'`"
            raise InputError("--report", options.report, wanted)
    from lrrt.finder.audit import audit

    found = audit(**arguments)
    if options.json:
        _print_json(found.to_dict())
    else:
        print(_wrap(str(found)), flush=True)
    if options.report is not None:
        found.report(options.report)
        if not options.json:
            print(f"report: {options.report}")


def _wrap(text: str) -> str:
    """Each line broken between words to the terminal's width, what follows indented."""
    width = min(100, shutil.get_terminal_size().columns)
    looks = {"subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
    hard = "\N{NO-BREAK SPACE}%"
    lines = (textwrap.fill(line.replace(" %", hard), width, **looks) for line in text.splitlines())
    return "\n".join(lines).replace(hard, " %")


def _audit_arguments(options: argparse.Namespace) -> dict[str, Any]:
    # As `python -m` would: the user's module lies in the working directory.
    sys.path.insert(0, "")
    arguments: dict[str, Any] = {}
    if options.config is not None:
        if options.make_model is not None:
            raise InputError("make_model", options.make_model, "left out beside --config")
        arguments = _read_configuration(Path(options.config))
    elif options.make_model is None:
        raise InputError("make_model", None, "module:function, or --config FILE")
    else:
        module = options.make_model.partition(":")[0]
        arguments["make_model"] = _find("make_model", options.make_model)
        data = options.make_data or f"{module}:make_data"
        arguments["make_data"] = _find("make_data", data, options.make_model)
    return arguments | _given_options(options, (*OF_AUDIT, *OF_TEST))


HOW_TO_WRITE = {
    "make_model": "def make_model(): return model, optimizer, loss (or a compiled Keras model)",
    "make_data": 'def make_data(): return {"data": (x, y), "batch_size": 32} (or a DataLoader)',
}


def _find(key: str, name: str, model: str = "module:make_model") -> Any:
    """The function ``package.module:function``; ``model`` is what the command line named first."""
    import importlib

    module_name, colon, function = name.partition(":")
    parts = module_name.split(".")
    if not colon or not function or "/" in module_name or not all(parts) or parts[-1] == "py":
        guess = f"{module_name.removesuffix('.py').replace('/', '.')}:{function or key}"
        raise InputError(key, name, f"package.module:function; write {guess}")
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
            called = f"lrrt audit {f'{model} ' * (key == 'make_data')}other_module:{key}"
            raise InputError(
                key,
                name,
                f"a function of {module_name}; it has none of that name. Write it there: "
                f"{HOW_TO_WRITE[key]}; or name another: {called}",
            )
        value = getattr(value, part)
    if not callable(value):
        raise InputError(key, name, "a function")
    return value


def _read_configuration(path: Path) -> dict[str, Any]:
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
    for name in plain:
        if not isinstance(name, str):
            raise InputError("option", name, "text as a name")
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
                f"a function that can be imported ({_innermost_place(error)})",
            ) from None
        except TypeError as error:
            raise InputError(key, target, f"parameters of its function ({error})") from None
    for name, value in plain.items():
        try:
            arguments[name] = instantiate(value) if isinstance(value, dict) else value
        except HydraException as error:
            raise InputError(name, value, f"what can be made ({_innermost_place(error)})") from None
    return arguments


def _innermost_place(error: BaseException) -> str:
    """In a line, what an error of Hydra's comes from."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    while isinstance(cause.__context__, AttributeError):
        cause = cause.__context__  # a name that a module lacks, then sought as a module within
    line = " ".join(str(cause).split())
    return line if cause is error else f"{type(cause).__name__}: {line}"


#: Each command's options, function, help and description.
COMMANDS = {
    "audit": (
        _audit_options,
        _audit,
        "what to train your own model at, and how sure that is",
        AUDIT_DESCRIPTION,
    ),
    "suggest": (
        _suggest_options,
        _suggest,
        "what a rule says about curves recorded elsewhere",
        "Apply a rule to recorded curves: CSV, TSV, JSON or JSON lines with a learning rate and a\n"
        "loss for each step, as fastai, torch-lr-finder, ignite, Lightning, the Hugging Face\n"
        "Trainer, Keras and this package give them.",
    ),
    "rules": (_json_option, _rules, "the rules, a line each", None),
    "compare": (
        _compare_options,
        _compare,
        "what all rules say about curves",
        "Apply every rule to one or more recorded curves.",
    ),
}
