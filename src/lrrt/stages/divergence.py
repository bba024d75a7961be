"""``python -m lrrt.stages.divergence``: does the range suggested for run A hold for run B?"""

import argparse
import json

import pandas as pd

from lrrt import config as configuration
from lrrt.analysis.divergence import choose_pairs, outcome_table, pairs_of
from lrrt.analysis.tables import SUGGESTION_TYPES, by_own_rule, read_table
from lrrt.errors import one_line_errors
from lrrt.files import write_whole
from lrrt.runs import study
from lrrt.runs.collect import training_table, write_table
from lrrt.runs.plan import training_specs


def main(arguments: list[str] | None = None) -> None:
    """Choose the pairs, carry out the trainings that the store lacks, write three tables.

    For each [backend, protocol] of ``divergence.pairs``, the runs A and B come from the weights
    sweep, by the protocol's own rule. In ``data/<study>/``: ``pairs.json``, by
    ``<backend>-<protocol>`` (:func:`lrrt.analysis.divergence.choose_pairs`), and
    ``trainings.parquet`` and ``outcomes.parquet``, in which the first pair goes by that name and
    the others by ``<backend>-<protocol>-2`` and so on.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        folder, dataset = study.folder(config), study.dataset(config)
        suggestions = by_own_rule(
            read_table(
                folder / "suggestions.parquet",
                list(SUGGESTION_TYPES),
                "python -m lrrt.stages.suggest",
            ),
            config.protocols,
        )
        chosen, found = {}, []
        settings = config.divergence
        for backend, protocol in settings.pairs:
            name = f"{backend}-{protocol}"
            case = {"backend": backend, "protocol": protocol, "sweep": "weights"}
            mine = (suggestions[list(case)] == pd.Series(case)).all(axis=1)
            chosen[name] = choose_pairs(suggestions[mine], settings.count(backend, protocol))
            identity = (dataset.digest, backend, protocol)
            for number, pair in enumerate(pairs_of(name, chosen[name]).items()):
                found.append((number, (*identity, *pair)))
        # Each case's first pair, then each one's second: the sort keeps the order of the cases.
        found.sort(key=lambda pair: pair[0])
        planned = [
            training_specs(
                config, *pair, swap=i < settings.swap_pairs, grid=i < settings.grid_pairs
            )
            for i, (_, pair) in enumerate(found)
        ]
        # What matters most of every pair comes first, for whoever stops the study half-way.
        ranked = sorted(
            ((rank, training.spec) for pair in planned for rank, training in enumerate(pair)),
            key=lambda item: item[0],
        )
        store = study.carry_out(config, [spec for _, spec in ranked])
        trainings = training_table([training for pair in planned for training in pair], store)
        write_table(folder / "trainings.parquet", trainings)
        write_table(folder / "outcomes.parquet", outcome_table(trainings, len(dataset.classes)))
        write_whole(folder / "pairs.json", (json.dumps(chosen, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
