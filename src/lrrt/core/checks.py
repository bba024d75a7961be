"""Is a value possible? Each check raises one :class:`lrrt.errors.InputError` that names its key."""

import math
import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from lrrt import plugins
from lrrt.core.protocol import CHOICES, WITHIN, DataSection, Ramp
from lrrt.errors import InputError


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


def check_fields(prefix: str, section: Any) -> None:
    """Each field of a dataclass by itself: its :data:`CHOICES`, and the range that it was given by
    :func:`lrrt.core.protocol.within`; of a list every item, of None nothing."""
    for field in fields(section):
        name, value = field.name, getattr(section, field.name)
        if value is None:
            continue
        if name in CHOICES and isinstance(value, str) and value not in CHOICES[name]:
            raise InputError(f"{prefix}.{name}", value, f"one of: {', '.join(CHOICES[name])}")
        for item in value if isinstance(value, list) else [value]:
            if WITHIN in field.metadata:
                check_range(f"{prefix}.{name}", item, *field.metadata[WITHIN])


def check_devices(prefix: str, devices: dict[str, str]) -> None:
    for backend, device in devices.items():
        plugins.check("lrrt.backends", backend, prefix)
        known = CHOICES["device"]
        if device not in known:
            raise InputError(f"{prefix}.{backend}", device, f"one of: {', '.join(known)}")


def check_data(prefix: str, data: DataSection) -> None:
    dataset = plugins.find("lrrt.datasets", data.name, f"{prefix}.name")
    if data.path is not None and not (data.path.strip() and data.path.isprintable()):
        raise InputError(f"{prefix}.path", data.path, "a path of printable characters, or null")
    check_fields(prefix, data)
    if hasattr(dataset, "validate"):
        try:
            dataset.validate(data)
        except InputError as error:
            key = error.key.replace("data", prefix, 1)
            raise InputError(key, error.value, error.expected) from None


def check_ramp(prefix: str, ramp: Ramp) -> None:
    check_fields(prefix, ramp)
    if ramp.end <= ramp.start:
        raise InputError(f"{prefix}.end", ramp.end, f"more than {prefix}.start = {ramp.start:g}")
