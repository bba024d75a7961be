"""``python -m lrrt.stages.mechanism``: curvature and step size along a ramp, on torch."""

import argparse

from lrrt import config as configuration
from lrrt.analysis.mechanism import mechanism
from lrrt.errors import one_line_errors
from lrrt.runs import paths, study
from lrrt.runs.collect import write_table
from lrrt.runs.probes import probes


def main(arguments: list[str] | None = None) -> None:
    """Carry out the runs that the store lacks; write ``data/<study>/mechanism.parquet``.

    One row per run and step (:func:`lrrt.analysis.mechanism.mechanism`), none where
    ``mechanism.runs`` is 0.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        planned = probes(config, study.dataset(config).digest)
        store = study.carry_out(config, [probe.spec for probe in planned])
        write_table(paths.folder(config) / "mechanism.parquet", mechanism(planned, store))


if __name__ == "__main__":
    main()
