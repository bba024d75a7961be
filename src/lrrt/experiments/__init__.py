"""Experiments: a folder each, found by name, with one contract.

``python -m lrrt.stages.experiment NAME`` carries out the experiment of a folder ``NAME``: its
design says which runs it needs, the launcher adds those that the store lacks, its tables are
written to ``data/<study>/``. The folder has the modules

``section``
    ``Section``, a dataclass: its section of ``params.yaml``, with a property ``enabled`` that is
    False of a study that asks for no run of it; and ``check(config)``, which raises
    :class:`lrrt.errors.InputError` for an impossible value. The key of the section is the name of
    the folder, or ``KEY``. Whoever reads a configuration imports this module, so that it imports
    :mod:`lrrt.core`, :mod:`lrrt.experiments._checks` and no other layer.
``design``
    ``design(config, dataset, **inputs)``, what the tables are made from; its ``specs`` are the runs
    (:class:`lrrt.runs.spec.RunSpec`; :func:`lrrt.runs.specify.specify` makes them), those that
    matter most first. Where design or tables need files of other stages, ``inputs(config)`` names
    them, as ``{keyword: Input(files, columns, command)}``; each becomes one frame.
``tables``
    ``tables(design, store)``, what is written: by file name, a frame (``.parquet``) or JSON values
    (``.json``); and ``SCHEMAS``, the columns and types of each frame by file name. The report reads
    the files of ``SCHEMAS`` where ``enabled`` is True (:attr:`lrrt.report.study.StudyData.tables`).

The stage writes one file more, ``timings/NAME.json``: by run the wall-clock seconds that it took,
apart from the tables, which are the same however often they are made.

A new experiment is such a folder, its defaults where a study differs from those of its ``Section``
(``conf/study/``), and a stage in ``dvc.yaml``, whose tables and section the stage ``report`` lists
among its ``deps`` and ``params``. ``sweep``, which all the others start from, has no section of its
own: ``study``, ``sweep`` and ``sweeps`` are its.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from lrrt.runs.spec import RunSpec
    from lrrt.runs.store import Store


class Input(NamedTuple):
    """Tables of one kind that another stage writes: their paths within ``data/<study>/``, the
    columns that are read, the command that writes them."""

    files: list[str]
    columns: Sequence[str]
    command: str


@runtime_checkable
class Staged(Protocol):
    """A design whose later runs hang on the results of earlier ones, or whose runs have data sets
    of their own."""

    def batches(self, store: "Store") -> Iterator[tuple[Path, list["RunSpec"]]]:
        """One batch of runs after the other, with the file of their data set; when the next is
        asked for, ``store`` has those before it."""
        ...
