"""``python -m lrrt.stages.sweep <backend> <protocol> <sweep>``: the curves of one sweep."""

import argparse
from pathlib import Path

from lrrt import config as configuration
from lrrt import plugins
from lrrt.datasets import open_dataset
from lrrt.errors import InputError, one_line_errors
from lrrt.runs.collect import curve_table, write_table
from lrrt.runs.plan import sweep_specs
from lrrt.runs.store import Store


def main(arguments: list[str] | None = None) -> None:
    """Carry out the runs that the store lacks, then collect the sweep's curves in one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("backend", "protocol", "sweep"):
        parser.add_argument(name)
    options = parser.parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        folder = Path("data") / config.study.name
        dataset_path = folder / "dataset.safetensors"
        if not dataset_path.is_file():
            raise InputError(
                "dataset", str(dataset_path), "a file; `python -m lrrt.stages.data` writes it"
            )
        digest = open_dataset(dataset_path).digest
        specs = sweep_specs(config, digest, options.backend, options.protocol, options.sweep)
        store = Store(folder / "store")
        launcher = plugins.find("lrrt.runs.launchers", config.launcher.name, "launcher.name")
        launcher.run(specs, dataset_path, store, config.launcher)
        table = curve_table(specs, {"protocol": options.protocol, "sweep": options.sweep}, store)
        name = f"{options.backend}-{options.protocol}-{options.sweep}.parquet"
        write_table(folder / "curves" / name, table)


if __name__ == "__main__":
    main()
