"""Ours: runs as a study does them, one process of one thread each; and a reference for losses."""

import dataclasses

from case import Case, Notes

from lrrt import plugins
from lrrt.runs import execute as execution


def study(case: Case, notes: Notes) -> None:
    """:func:`lrrt.runs.execute.execute`, batches drawn and augmented as it goes."""
    dataset = case.dataset()
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
    execution.execute(case.spec(dataset.digest), dataset)


def bfloat16(case: Case, notes: Notes) -> None:
    """The arm in bfloat16: other numbers, its losses are not those of the rest."""
    spec = Case.spec
    Case.spec = lambda self, digest: dataclasses.replace(spec(self, digest), precision="bfloat16")
    study(case, notes)


def bare(case: Case, notes: Notes) -> None:
    """Our backend's step in a loop, on batches ready-made."""
    images, labels = case.batches()
    network = plugins.find("lrrt.backends", case.framework, "backend").build(
        case.nodes, case.protocol, case.weights()
    )
    for step, lr in enumerate(case.lrs):
        part = slice(step * case.batch, (step + 1) * case.batch)
        notes.note(network.step(images[part], labels[part], float(lr)).loss, lr)
