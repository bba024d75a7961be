"""``python -m lrrt.stages.attribution``: which factors move the range between two protocols."""

import argparse

from lrrt import config as configuration
from lrrt.analysis.attribution import effects, readings
from lrrt.errors import one_line_errors
from lrrt.runs import paths, study
from lrrt.runs.collect import write_table
from lrrt.runs.ladder import rungs, specs_of


def main(arguments: list[str] | None = None) -> None:
    """Carry out the runs that the store lacks; write ``data/<study>/attribution.parquet``.

    One row per rung of the ladder and quantity (:func:`lrrt.analysis.attribution.effects`), none
    where ``attribution.runs`` is 0; beside it ``attribution_runs.parquet``, one row per rung and
    paired seed, which the effects are made from.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        folder = paths.folder(config)
        ladder = rungs(config, study.dataset(config).digest)
        paired = readings(ladder, study.carry_out(config, specs_of(ladder)))
        write_table(folder / "attribution_runs.parquet", paired)
        write_table(folder / "attribution.parquet", effects(paired))


if __name__ == "__main__":
    main()
