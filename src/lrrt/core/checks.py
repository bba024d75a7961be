"""Is a value possible? Each check raises one :class:`lrrt.errors.InputError` that names its key."""

import math
import re
from collections.abc import Iterable
from typing import Any

from lrrt import plugins
from lrrt.core.protocol import CHOICES, DataConfig, RampConfig
from lrrt.errors import InputError

# Learning rates and clipping norms keep far from the ends of float32 (1e-38 to 3e38), which both
# frameworks compute in.
SMALLEST, LARGEST = 1e-30, 1e30


def check_range(key: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise :class:`InputError` unless ``low <= value <= high`` (NaN is never in range)."""
    if not low <= value <= high:
        low, high = (f"{end:g}" if isinstance(end, float) else str(end) for end in (low, high))
        span = f"at least {low}" if high == "inf" else f"from {low} to {high}"
        raise InputError(key, value, f"a number {span}")


def check_names(key: str, names: Iterable[str]) -> None:
    """Names become parts of file names, joined by hyphens, and of DVC's parameters."""
    for name in names:
        if not re.fullmatch("[A-Za-z0-9_]{1,64}", name):
            raise InputError(key, name, "a name of 1 to 64 letters, digits and '_'")


def check_listed(key: str, names: list[str]) -> None:
    if not names or len(set(names)) != len(names):
        raise InputError(key, names, "a list of at least one name, none twice")


def check_choices(prefix: str, section: Any) -> None:
    for name, allowed in CHOICES.items():
        value = getattr(section, name, None)
        if value is not None and value not in allowed:
            raise InputError(f"{prefix}.{name}", value, f"one of: {', '.join(allowed)}")


def check_devices(prefix: str, devices: dict[str, str]) -> None:
    for backend, device in devices.items():
        plugins.check("lrrt.backends", backend, prefix)
        known = CHOICES["device"]
        if device not in known:
            raise InputError(f"{prefix}.{backend}", device, f"one of: {', '.join(known)}")


def check_data(prefix: str, data: DataConfig) -> None:
    dataset = plugins.find("lrrt.datasets", data.name, f"{prefix}.name")
    if data.path is not None and not (data.path.strip() and data.path.isprintable()):
        raise InputError(f"{prefix}.path", data.path, "a path of printable characters, or null")
    check_range(f"{prefix}.train_images", data.train_images, 10, 1_000_000)
    check_range(f"{prefix}.test_images", data.test_images, 10, 1_000_000)
    check_range(f"{prefix}.seed", data.seed, 0, 2**63 - 1)
    if hasattr(dataset, "validate"):
        try:
            dataset.validate(data)
        except InputError as error:
            key = error.key.replace("data", prefix, 1)
            raise InputError(key, error.value, error.expected) from None


def check_ramp(prefix: str, ramp: RampConfig) -> None:
    check_choices(prefix, ramp)
    for name in ("start", "end"):
        check_range(f"{prefix}.{name}", getattr(ramp, name), SMALLEST, LARGEST)
    if ramp.end <= ramp.start:
        raise InputError(f"{prefix}.end", ramp.end, f"more than {prefix}.start = {ramp.start:g}")
    if ramp.steps is not None:
        check_range(f"{prefix}.steps", ramp.steps, 10, 100_000)
