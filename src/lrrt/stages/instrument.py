"""``python -m lrrt.stages.instrument``: what the suggested range owes to the instrument."""

import argparse

import pandas as pd

from lrrt import config as configuration
from lrrt.analysis.instrument import replayed, restart_effects, restarted, trained
from lrrt.analysis.tables import read_table
from lrrt.core.curve import COLUMNS
from lrrt.errors import one_line_errors
from lrrt.runs import paths, study
from lrrt.runs.collect import curves_file, write_table
from lrrt.runs.probes import restarts, variants


def main(arguments: list[str] | None = None) -> None:
    """Carry out the runs that the store lacks; write ``data/<study>/instrument.parquet``.

    One row per protocol, rule, setting, value and quantity, none where ``instrument.runs`` is 0:
    replays on the curves of the weights sweep (on the protocol's home, where the study has that),
    other ramps, and restarts, whose runs are in ``instrument_restarts.parquet`` beside it.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        folder, digest = paths.folder(config), study.dataset(config).digest
        ramps, flat = variants(config, digest), restarts(config, digest)
        curves = [
            read_table(folder / curves_file(case), COLUMNS, "python -m lrrt.stages.sweep")
            for case in swept(config)
        ]
        specs = [spec for variant in ramps for spec in variant.specs]
        specs += [spec for restart in flat for spec in (restart.spec, restart.ramp)]
        store = study.carry_out(config, specs)
        found = restarted(flat, store)
        parts = [trained(ramps, store), restart_effects(found)]
        if curves:
            parts.insert(0, replayed(pd.concat(curves, ignore_index=True), config.protocols))
        write_table(folder / "instrument_restarts.parquet", found)
        write_table(folder / "instrument.parquet", pd.concat(parts, ignore_index=True))


def swept(config: configuration.Config) -> list[tuple[str, str, str]]:
    """The weights sweep of each protocol that the study has, at home or on the first backend that
    runs it."""
    settings, study = config.instrument, config.study
    if not settings.runs:
        return []
    names = [name for name in settings.protocols if name in study.protocols]
    homes = [config.protocols[name].home for name in names]
    known = [name for name in study.backends if config.sweeps["weights"].runs_on(name)]
    backends = [home if home in known else known[0] for home in homes]
    return [(backend, name, "weights") for backend, name in zip(backends, names, strict=True)]


if __name__ == "__main__":
    main()
