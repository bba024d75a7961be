"""``python -m lrrt.stages.divergence``: does the range suggested for run A hold for run B?"""

import argparse
import json
import sys

from lrrt import config as configuration
from lrrt.analysis.divergence import outcome_table, pairs_of, planned
from lrrt.analysis.tables import SUGGESTION_TYPES, read_table
from lrrt.errors import one_line_errors
from lrrt.files import write_whole
from lrrt.runs import paths, study
from lrrt.runs.collect import training_table, write_table
from lrrt.runs.plan import training_queue


def main(arguments: list[str] | None = None) -> None:
    """Choose the pairs, carry out the trainings that the store lacks, write three tables.

    The pairs are those of :func:`lrrt.analysis.divergence.planned`. In ``data/<study>/``:
    ``pairs.json``, by ``<backend>-<protocol>`` (:func:`lrrt.analysis.divergence.choose_pairs`), and
    ``trainings.parquet`` and ``outcomes.parquet``, in which the first pair goes by that name and
    the others by ``<backend>-<protocol>-2`` and so on.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        folder, dataset = paths.folder(config), study.dataset(config)
        suggestions = read_table(
            folder / "suggestions.parquet", list(SUGGESTION_TYPES), "python -m lrrt.stages.suggest"
        )
        chosen, asked = planned(config, dataset.digest, suggestions)
        for case in config.divergence.cases:
            found = len(pairs_of(case.case, chosen[case.case]))
            if found < case.pairs:
                words = f"{found} of {case.pairs} pairs: {chosen[case.case]['n']} runs have a range"
                print(f"divergence: {case.case}: {words}", file=sys.stderr)
        trainings = training_table(asked, study.carry_out(config, training_queue(asked)))
        write_table(folder / "trainings.parquet", trainings)
        write_table(folder / "outcomes.parquet", outcome_table(trainings, len(dataset.classes)))
        write_whole(folder / "pairs.json", (json.dumps(chosen, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
