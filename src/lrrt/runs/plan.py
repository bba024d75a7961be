"""From a sweep's configuration to the specifications of its runs."""

import dataclasses

from lrrt import plugins
from lrrt.config import Config
from lrrt.errors import InputError
from lrrt.runs.spec import RunSpec


def sweep_specs(
    config: Config, dataset_digest: str, backend: str, protocol_name: str, sweep_name: str
) -> list[RunSpec]:
    """The range tests of one sweep, by batch size, then by run; no run twice.

    Run i has weights seed ``seed + i`` where the sweep asks for new weights (else ``seed``), and
    likewise its order seed. The steps are the sweep's, else the ramp's, else one epoch of whole
    batches.

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
    runs = sweep.runs if protocol.home == backend else sweep.crossed_runs
    specs = []
    for batch_size in sweep.batch_sizes:
        whole_batches = config.data.train_images // batch_size
        if whole_batches == 0:
            raise InputError(
                f"sweeps.{sweep_name}.batch_sizes", batch_size,
                f"at most data.train_images = {config.data.train_images}",
            )
        steps = sweep.steps or protocol.ramp.steps or whole_batches
        ramp = dataclasses.replace(protocol.ramp, steps=steps)
        specs += [
            RunSpec(
                kind="range_test",
                backend=backend,
                protocol=dataclasses.replace(protocol, ramp=ramp),
                model=config.model,
                data_digest=dataset_digest,
                weights_seed=sweep.seed + (i if sweep.new_weights else 0),
                order_seed=sweep.seed + (i if sweep.new_order else 0),
                batch_size=batch_size,
                steps=steps,
                validation=sweep.validation,
                precision=sweep.precision,
                threads=config.launcher.threads,
            )
            for i in range(runs)
        ]
    # Where nothing is new from run to run, the runs are one and the same.
    return list({spec.key: spec for spec in specs}.values())
