"""``python -m lrrt.stages.report``: figures, tables, claims and the page of a study."""

import argparse
from pathlib import Path

from lrrt import config as configuration
from lrrt.errors import one_line_errors
from lrrt.progress import announce
from lrrt.report import verdicts
from lrrt.report.build import build, write
from lrrt.report.study import load


def main(arguments: list[str] | None = None) -> None:
    """Read the files of the study that ``params.yaml`` names, make its report, then write it."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    announce("report")
    with one_line_errors():
        config = configuration.load()
        data, folder = load(config), Path("reports") / config.study.name
        claims = verdicts.read(folder, next(iter(config.report.beside), None))
        write(folder, build(data, claims))


if __name__ == "__main__":
    main()
