"""From a configuration to the specification of a run, whatever asks for it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrrt.config import Config, Sweep
from lrrt.core.protocol import Protocol
from lrrt.runs.spec import RunSpec


def specify(
    config: Config,
    digest: str,
    kind: str,
    backend: str,
    protocol: Protocol,
    *,
    seed: int,
    batch_size: int,
    steps: int,
    precision: str,
    devices: Mapping[str, str],
    **changes: Any,
) -> RunSpec:
    """A run on the study's data and network, on the device that its section or the launcher names.

    Parameters
    ----------
    digest : str
        Of the data set.
    seed : int
        Of the weights and the batches, unless ``changes`` say otherwise.
    steps : int
        Of a range test, whose ramp then has as many, or of one epoch of a training.
    precision, devices
        The device of ``devices``, else the launcher's; no TF32 on a CPU.
    **changes
        Further fields of :class:`lrrt.runs.spec.RunSpec`.
    """
    if kind == "range_test":
        ramp = dataclasses.replace(protocol.ramp, steps=steps)
        protocol = dataclasses.replace(protocol, ramp=ramp)
    device, precision = device_and_precision(config, backend, devices, precision)
    fields = {
        "model": config.model,
        "weights_seed": seed,
        "order_seed": seed,
        "threads": config.launcher.threads,
        "device": device,
        "precision": precision,
    }
    return RunSpec(
        kind=kind,
        backend=backend,
        protocol=protocol,
        data_digest=digest,
        batch_size=batch_size,
        steps=steps,
        **fields | changes,
    )


def ramp_steps(sweep: Sweep, protocol: Protocol, whole_batches: int) -> int:
    """The sweep's, else the ramp's (unless the sweep asks for a whole epoch), else one epoch."""
    return sweep.steps or (not sweep.whole_epoch and protocol.ramp.steps) or whole_batches


def device_and_precision(
    config: Config, backend: str, devices: Mapping[str, str], precision: str
) -> tuple[str, str]:
    """Those of a run: the device of ``devices``, else the launcher's; no TF32 on a CPU."""
    device = devices.get(backend, config.launcher.device)
    return device, "float32" if (device, precision) == ("cpu", "tfloat32") else precision
