"""The range tests of every sweep of a study."""

from collections.abc import Mapping
from typing import NamedTuple

from lrrt import plugins
from lrrt.config import Config
from lrrt.datasets import Dataset
from lrrt.errors import InputError
from lrrt.runs.spec import RunSpec
from lrrt.runs.specify import ramp_steps, specify


class Design(NamedTuple):
    """``runs``: by backend, protocol and sweep, its range tests; ``specs``: all, by turns."""

    runs: dict[tuple[str, str, str], list[RunSpec]]
    specs: list[RunSpec]


def design(config: Config, dataset: Dataset) -> Design:
    """All sweeps. The first run of every sweep comes before the second of any (on a backend, where
    one worker does several), so that what is finished when it is stopped makes a smaller study."""
    planned = {case: sweep_specs(config, dataset.digest, *case) for case in config.cases}
    return Design(planned, queue(config, planned))


def sweep_specs(
    config: Config, dataset_digest: str, backend: str, protocol_name: str, sweep_name: str
) -> list[RunSpec]:
    """The range tests of one sweep, by batch size, then by run; no run twice.

    Run i has weights seed ``seed + i`` where the sweep asks for new weights (else ``seed``), and
    likewise its order seed. The steps are the sweep's, else the ramp's, else one epoch of whole
    batches; that epoch also where the sweep asks for it.

    Raises
    ------
    InputError
        For an unknown backend, protocol or sweep, naming those that exist, and for a batch larger
        than the training data.
    """
    plugins.check("lrrt.backends", backend, "backend")
    for key, name, known in (
        ("protocol", protocol_name, config.protocols),
        ("sweep", sweep_name, config.sweeps),
    ):
        if name not in known:
            raise InputError(key, name, f"one of: {', '.join(sorted(known))}")
    protocol, sweep = config.protocols[protocol_name], config.sweeps[sweep_name]
    runs = sweep.count(backend, protocol_name, protocol.home)
    specs = []
    for batch_size in sweep.batch_sizes:
        whole_batches = config.data.train_images // batch_size
        if whole_batches == 0:
            raise InputError(
                f"sweeps.{sweep_name}.batch_sizes",
                batch_size,
                f"at most data.train_images = {config.data.train_images}",
            )
        steps = ramp_steps(sweep, protocol, whole_batches)
        specs += [
            specify(
                config,
                dataset_digest,
                "range_test",
                backend,
                protocol,
                seed=sweep.seed,
                weights_seed=sweep.seed + (i if sweep.new_weights else 0),
                order_seed=sweep.seed + (i if sweep.new_order else 0),
                batch_size=batch_size,
                steps=steps,
                precision=sweep.precision,
                devices=sweep.devices,
                validation=sweep.validation,
            )
            for i in range(runs)
        ]
    # Where nothing is new from run to run, the runs are one and the same.
    return list({spec.key: spec for spec in specs}.values())


def queue(config: Config, planned: Mapping[tuple[str, str, str], list[RunSpec]]) -> list[RunSpec]:
    """All range tests of a study: run i of every sweep, case and batch size, for each i in turn.

    ``planned``: :func:`sweep_specs` by backend, protocol and sweep.

    Of one i in the order of ``study.sweeps``; protocols on the backend that the post ran them on
    come before the others.
    """
    found: dict[int, list[RunSpec]] = {}
    cases = [
        (config.protocols[protocol].home != backend, backend, protocol)
        for backend in config.study.backends
        for protocol in config.study.protocols
    ]
    for sweep in config.study.sweeps:
        for _, backend, protocol in sorted(cases):
            counts: dict[int, int] = {}
            for spec in planned.get((backend, protocol, sweep), []):
                i = counts[spec.batch_size] = counts.get(spec.batch_size, -1) + 1
                found.setdefault(i, []).append(spec)
    return [spec for i in sorted(found) for spec in found[i]]
