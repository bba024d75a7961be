"""Ours: runs as a study does them, one process of one thread each; and a reference for losses."""

import dataclasses

from case import Case, Notes

from lrrt import plugins
from lrrt.runs import execute as execution


def study(case: Case, notes: Notes, test_images: int = 10, **changes) -> None:
    """:func:`lrrt.runs.execute.execute`, batches drawn and augmented as it goes; ``changes`` of
    the specification."""
    dataset = case.dataset(test_images)
    real = execution._build

    def watched(*arguments):
        network = real(*arguments)
        step = network.step

        def noted(images, labels, lr):
            taken = step(images, labels, lr)
            notes.note(taken.loss, lr)
            return taken

        network.step = noted
        return network

    execution._build = watched
    execution.execute(dataclasses.replace(case.spec(dataset.digest), **changes), dataset)


def bfloat16(case: Case, notes: Notes) -> None:
    """The arm in bfloat16: other numbers, its losses are not those of the rest."""
    study(case, notes, precision="bfloat16")


def validated(case: Case, notes: Notes) -> None:
    """With the loss of 10,000 test images after every step."""
    study(case, notes, test_images=10_000, validation="running")


def bare(case: Case, notes: Notes) -> None:
    """Our backend's step in a loop, on batches ready-made."""
    images, labels = case.batches()
    network = plugins.find("lrrt.backends", case.framework, "backend").build(
        case.nodes, case.protocol, case.weights()
    )
    for step, lr in enumerate(case.lrs):
        part = slice(step * case.batch, (step + 1) * case.batch)
        notes.note(network.step(images[part], labels[part], float(lr)).loss, lr)
