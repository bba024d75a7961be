"""``python -m lrrt.stages.experiment NAME``: the runs and the tables of one experiment."""

import argparse
import json
from typing import Any

import pandas as pd

from lrrt import config as configuration
from lrrt import plugins
from lrrt.analysis.suggestions import read_table
from lrrt.datasets import Dataset
from lrrt.errors import one_line_errors
from lrrt.experiments import Input, Staged
from lrrt.files import write_whole
from lrrt.progress import announce
from lrrt.runs import paths, study
from lrrt.runs.result_tables import write_table
from lrrt.runs.store import Timed


def main(arguments: list[str] | None = None) -> None:
    """Carry out the runs that the store lacks; write the experiment's files in ``data/<study>/``,
    and how many seconds each run took in ``timings/NAME.json`` there.

    What an experiment is made of: :mod:`lrrt.experiments`.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    known = ", ".join(plugins.names("lrrt.experiments"))
    parser.add_argument("name", metavar="NAME", help=f"one of: {known}")
    name = parser.parse_args(arguments).name
    announce(name)
    with one_line_errors():
        tables = plugins.part("lrrt.experiments", name, "tables", "experiment")
        config = configuration.load()
        design = make_design(name, config, study.dataset(config))
        store = Timed(paths.store_path(config))
        if isinstance(design, Staged):
            for dataset, specs in design.batches(store):
                study.carry_out(config, specs, dataset)
        else:
            study.carry_out(config, design.specs)
        folder = paths.folder(config)
        made = tables.tables(design, store)
        # Apart, since they differ each time that a run is carried out; the tables do not.
        made[f"timings/{name}.json"] = dict(sorted(store.seconds.items()))
        for file, content in made.items():
            if isinstance(content, pd.DataFrame):
                write_table(folder / file, content)
            else:
                write_whole(folder / file, (json.dumps(content, indent=2) + "\n").encode())


def make_design(name: str, config: configuration.Config, dataset: Dataset) -> Any:
    """The design of the experiment ``name``, which reads the files that it needs."""
    module = plugins.part("lrrt.experiments", name, "design", "experiment")
    inputs = module.inputs(config) if hasattr(module, "inputs") else {}
    frames = {keyword: _read(config, tables) for keyword, tables in inputs.items()}
    return module.design(config, dataset, **frames)


def _read(config: configuration.Config, tables: Input) -> pd.DataFrame:
    folder, columns = paths.folder(config), list(tables.columns)
    found = [read_table(folder / file, columns, tables.command) for file in tables.files]
    return pd.concat(found or [pd.DataFrame(columns=columns)], ignore_index=True)


if __name__ == "__main__":
    main()
