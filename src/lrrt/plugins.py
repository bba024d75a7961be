"""Find an implementation by name: one module per name in a package, nothing registered by hand."""

import difflib
import importlib
import importlib.util
import pkgutil
from types import ModuleType

from lrrt.errors import InputError


def names(package: str) -> list[str]:
    """Names of the public modules of ``package``, sorted; none of them is imported."""
    path = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))


def one_of(existing: list[str], name: object) -> str:
    """What an :class:`InputError` expects in the place of the unknown ``name``."""
    close = difflib.get_close_matches(str(name), existing, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"one of: {', '.join(existing)}{hint}"


def check(package: str, name: object, key: str) -> None:
    """Raise :class:`InputError` for ``key`` unless ``package`` has a module called ``name``."""
    existing = names(package)
    if name not in existing:
        raise InputError(key, name, one_of(existing, name))


def find(package: str, name: str, key: str) -> ModuleType:
    """Import the module called ``name`` of ``package``.

    Raises
    ------
    InputError
        If there is none; the message lists those that exist.
    """
    check(package, name, key)
    return importlib.import_module(f"{package}.{name}")


def part(package: str, name: str, part: str, key: str) -> ModuleType:
    """The module called ``part`` of the package called ``name`` of ``package``; as :func:`find`."""
    check(package, name, key)
    return importlib.import_module(f"{package}.{name}.{part}")


def parts(package: str, part: str) -> dict[str, ModuleType]:
    """The module called ``part`` of each package in ``package`` that has one, by its name."""
    inside = (f"{package}.{name}" for name in names(package))
    return {
        path.rpartition(".")[2]: importlib.import_module(f"{path}.{part}")
        for path in inside
        if importlib.util.find_spec(f"{path}.{part}")
    }
