"""``python -m lrrt.stages.sweep``: the range tests of a study, and their curves."""

import argparse

from lrrt import config as configuration
from lrrt.errors import one_line_errors
from lrrt.runs import paths, study
from lrrt.runs.collect import curve_table, curves_file, write_table
from lrrt.runs.plan import queue, sweep_specs


def main(arguments: list[str] | None = None) -> None:
    """Carry out the runs that the store lacks, then write each sweep's curves as one table.

    The first run of every sweep comes before the second of any (on a backend, where one worker
    does several), so that what is finished when it is stopped makes a smaller study.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        digest = study.dataset(config).digest
        planned = {case: sweep_specs(config, digest, *case) for case in config.cases}
        store = study.carry_out(config, queue(config, planned))
        for case, specs in planned.items():
            names = dict(zip(("protocol", "sweep"), case[1:], strict=True))
            table = curve_table(specs, names, store)
            write_table(paths.folder(config) / curves_file(case), table)


if __name__ == "__main__":
    main()
