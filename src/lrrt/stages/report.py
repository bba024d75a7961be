"""``python -m lrrt.stages.report``: figures, tables, claims and the page of a study."""

import argparse
import dataclasses
from pathlib import Path

from lrrt import config as configuration
from lrrt.errors import one_line_errors
from lrrt.report.build import build, write
from lrrt.report.study import load
from lrrt.runs import paths
from lrrt.runs.collect import kept_seconds
from lrrt.runs.store import Store


def main(arguments: list[str] | None = None) -> None:
    """Read the files of the study that ``params.yaml`` names, make its report, then write it.

    Of the store only the times are read, where it has them.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        data = load(config)
        store = Store(paths.store_path(config))
        seconds = kept_seconds([*data.curves["run"], *data.trainings["run"]], store)
        write(
            Path("reports") / config.study.name, build(dataclasses.replace(data, seconds=seconds))
        )


if __name__ == "__main__":
    main()
