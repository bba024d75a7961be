"""``python -m lrrt.stages.variance``: how much weights, batch order and augmentation each do."""

import argparse

from lrrt import config as configuration
from lrrt.analysis.variance import component_table, run_table, spread_table
from lrrt.errors import one_line_errors
from lrrt.runs import paths, study
from lrrt.runs.collect import write_table
from lrrt.runs.crossed import cells


def main(arguments: list[str] | None = None) -> None:
    """Carry out the runs that the store lacks; write three tables in ``data/<study>/``.

    ``variance_runs.parquet``: one row per combination; ``variance.parquet``: the components of
    the variance; ``variance_spread.parquet``: what is left of the spread with some factors fixed
    (:mod:`lrrt.analysis.variance`). No rows where ``variance.weights`` is 0.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        folder = paths.folder(config)
        planned = cells(config, study.dataset(config).digest)
        runs = run_table(planned, study.carry_out(config, [cell.spec for cell in planned]))
        write_table(folder / "variance_runs.parquet", runs)
        write_table(folder / "variance.parquet", component_table(runs))
        write_table(folder / "variance_spread.parquet", spread_table(runs))


if __name__ == "__main__":
    main()
