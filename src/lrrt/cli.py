"""The ``lrrt`` command."""

import argparse
from pathlib import Path

from lrrt import __version__
from lrrt.errors import InputError, one_line_errors


def main(arguments: list[str] | None = None) -> None:
    """Parse ``arguments`` (default: the command line) and run the command they name."""
    with one_line_errors():  # for Ctrl-C during the imports, too
        _run(arguments)


def _run(arguments: list[str] | None) -> None:
    from lrrt.files import write_whole
    from lrrt.finder import command as finder

    parser = argparse.ArgumentParser(
        prog="lrrt", description="Study and library of the learning rate range test."
    )
    parser.add_argument("--version", action="version", version=f"lrrt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    finder.add(commands)
    composing = commands.add_parser(
        "compose",
        help="write the study's params.yaml from conf/, for a plain `dvc repro`",
        description="Compose conf/ with overrides (study=blog, data=cifar10, model.depth=20, "
        "sweep.runs=5, ...) into params.yaml.",
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
            from lrrt.compose import composed_yaml
        except ModuleNotFoundError as error:
            if error.name not in ("hydra", "omegaconf"):
                raise
            raise InputError(
                "compose", error.name, "hydra-core; `pip install hydra-core`"
            ) from None

        text = composed_yaml(Path("conf"), options.overrides)
        if options.show:
            print(text, end="")
        else:
            write_whole(Path("params.yaml"), text.encode())
    elif options.command == "list":
        _list(options.group)


def _list(group: str | None) -> None:
    groups = sorted(path.name for path in Path("conf").glob("*") if path.is_dir())
    if not groups:
        raise InputError("folder", str(Path.cwd()), "the study's repository, with its conf/")
    if group is not None and group not in groups:
        raise InputError("group", group, f"one of: {', '.join(groups)}")
    for name in groups if group is None else [group]:
        members = sorted(path.stem for path in (Path("conf") / name).glob("*.yaml"))
        print(f"{name}: {', '.join(members)}")
