"""``python -m lrrt.stages.suggest``: every rule replayed on every curve of the study."""

import argparse

import pandas as pd

from lrrt import config as configuration
from lrrt.analysis.suggestions import CURVE_TYPES, curves_file, read_table, suggestion_table
from lrrt.errors import one_line_errors
from lrrt.progress import announce
from lrrt.runs import paths
from lrrt.runs.result_tables import write_table


def main(arguments: list[str] | None = None) -> None:
    """Write ``data/<study>/suggestions.parquet`` from the curves that ``params.yaml`` names.

    Other files that lie in the folder, of sweeps that the study no longer has, are not read.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    announce("suggest")
    with one_line_errors():
        config = configuration.load()
        folder = paths.folder(config)
        curves = [
            read_table(
                folder / curves_file(case), [*CURVE_TYPES], "python -m lrrt.stages.experiment sweep"
            )
            for case in config.cases
        ]
        table = suggestion_table(pd.concat(curves, ignore_index=True), config.protocols)
        write_table(folder / "suggestions.parquet", table)


if __name__ == "__main__":
    main()
