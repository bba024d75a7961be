"""The ``lrrt`` command."""

import argparse
import json
import shutil
import sys
import textwrap
from pathlib import Path

from lrrt import __version__
from lrrt.errors import InputError, one_line_errors

MOST_CHANGES = 12  # that `lrrt compose` lists


def main(arguments: list[str] | None = None) -> None:
    """Parse ``arguments`` (default: the command line) and run the command they name."""
    if hasattr(sys.stdout, "reconfigure"):  # a file's name that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    with one_line_errors():  # for Ctrl-C during the imports, too
        _run(arguments)


def _run(arguments: list[str] | None) -> None:
    from lrrt.files import write_whole
    from lrrt.finder import command as finder

    parser = argparse.ArgumentParser(
        prog="lrrt",
        description="Find what to train your model at, and study learning-rate finders.",
    )
    parser.add_argument("--version", action="version", version=f"lrrt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    finder.add(commands)
    composing = commands.add_parser(
        "compose",
        help="write the study's params.yaml from conf/, for a plain `dvc repro`",
        description="Compose conf/ with overrides into params.yaml, say what changed. GROUP=NAME "
        "takes one of what `lrrt list` shows (study=blog, data=cifar10), KEY=VALUE sets a number "
        "(sweep.runs=5, model.depth=20), +KEY=VALUE adds one. docs/study.md has examples.",
    )
    composing.add_argument("overrides", nargs="*", help="Hydra overrides, as of `dvc exp run -S`")
    composing.add_argument("--show", action="store_true", help="print it, write nothing")
    listing = commands.add_parser("list", help="what each of the study's config groups offers")
    listing.add_argument("group", nargs="?", help="one group only")
    options = parser.parse_args(arguments)
    if options.command in finder.COMMANDS:
        finder.run(options)
    elif options.command == "compose":
        try:
            from lrrt.compose import changes, composed_yaml, written
        except ModuleNotFoundError as error:
            if error.name not in ("hydra", "omegaconf"):
                raise
            raise InputError(
                "compose", error.name, "hydra-core; `pip install hydra-core`"
            ) from None

        text = composed_yaml(Path("conf"), options.overrides)
        if options.show:
            print(text, end="")
            return
        path = Path("params.yaml")
        found = changes(written(path), text)
        write_whole(path, text.encode())
        _say_changes(found)
    elif options.command == "list":
        _list(options.group)


def _say_changes(found: dict) -> None:
    for key, (old, new) in list(found.items())[:MOST_CHANGES]:
        print(f"  {key}: {json.dumps(old)} -> {json.dumps(new)}")
    if len(found) > MOST_CHANGES:
        print(f"  and {len(found) - MOST_CHANGES} more")
    keys = "1 key" if len(found) == 1 else f"{len(found) or 'no'} keys"
    print(f"params.yaml: {keys} changed. Next: dvc repro")


def _indents(first: str) -> dict[str, str]:
    """Options of :func:`textwrap.fill`: further lines begin below the end of ``first``."""
    return {"initial_indent": first, "subsequent_indent": " " * len(first)}


def _list(group: str | None) -> None:
    conf = Path("conf")
    groups = sorted(path.name for path in conf.glob("*") if path.is_dir())
    if not groups:
        raise InputError("folder", str(Path.cwd()), "the study's repository, with its conf/")
    if group is not None and group not in groups:
        raise InputError("group", group, f"one of: {', '.join(groups)}")
    from lrrt.compose import options

    width = min(100, shutil.get_terminal_size().columns)
    print("* marks what the default study takes; `lrrt compose GROUP=NAME` takes another.")
    for name in groups if group is None else [group]:
        print(f"\n{name}")
        for option in options(conf):
            if option.group == name:
                first = f"{'*' if option.default else ' '} {option.name:17} "
                print(textwrap.fill(option.about, width, **_indents(first)))
