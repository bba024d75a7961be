"""How the stages of a study open its data set and carry out runs."""

from pathlib import Path

from lrrt import plugins
from lrrt.config import Config
from lrrt.datasets import Dataset, open_dataset
from lrrt.errors import InputError
from lrrt.runs.paths import dataset_path, store_path
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store


def dataset(config: Config) -> Dataset:
    """The study's data set; :class:`InputError`, naming the command that writes it, without one."""
    path = dataset_path(config)
    if not path.is_file():
        raise InputError("dataset", str(path), "a file; `python -m lrrt.stages.data` writes it")
    return open_dataset(path)


def carry_out(config: Config, specs: list[RunSpec], dataset: Path | None = None) -> Store:
    """The study's store, once the configured launcher has added the ``specs`` it lacked.

    ``dataset``: the file of theirs, where it is not the study's own.
    """
    store = Store(store_path(config))
    launcher = plugins.find("lrrt.runs.launchers", config.launcher.name, "launcher.name")
    launcher.run(specs, dataset or dataset_path(config), store, config.launcher)
    return store
