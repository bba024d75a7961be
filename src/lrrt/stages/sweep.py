"""``python -m lrrt.stages.sweep <backend> <protocol> <sweep>``: the curves of one sweep."""

import argparse

from lrrt import config as configuration
from lrrt.errors import one_line_errors
from lrrt.runs import study
from lrrt.runs.collect import curve_table, write_table
from lrrt.runs.plan import sweep_specs


def main(arguments: list[str] | None = None) -> None:
    """Carry out the runs that the store lacks, then collect the sweep's curves in one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("backend", "protocol", "sweep"):
        parser.add_argument(name)
    options = parser.parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        digest = study.dataset(config).digest
        specs = sweep_specs(config, digest, options.backend, options.protocol, options.sweep)
        store = study.carry_out(config, specs)
        table = curve_table(specs, {"protocol": options.protocol, "sweep": options.sweep}, store)
        name = f"{options.backend}-{options.protocol}-{options.sweep}.parquet"
        write_table(study.folder(config) / "curves" / name, table)


if __name__ == "__main__":
    main()
