"""From ``params.yaml``, or any mapping, to a checked :class:`Config`."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import BooleanNode, FloatNode, IntegerNode, OmegaConf, StringNode
from omegaconf.errors import OmegaConfBaseException

from lrrt.config.schema import Config
from lrrt.config.validation import validate
from lrrt.core import networks
from lrrt.core.protocol import ModelSection
from lrrt.errors import InputError

# Of types: what a message calls them, and what OmegaConf converts to them with.
LEAVES = {
    int: ("a whole number", IntegerNode),
    float: ("a number", FloatNode),
    bool: ("true or false", BooleanNode),
    str: ("text", StringNode),
}


def hints(section: type) -> dict[str, Any]:
    """Types by key of a dataclass; ``type`` of a field's metadata goes before its annotation."""
    found = get_type_hints(section)
    return found | {f.name: f.metadata["type"] for f in fields(section) if "type" in f.metadata}


def _convert(key: str, value: Any, hint: Any) -> Any:
    """``value`` as ``hint`` says: a dataclass of mappings, or numbers and text that can be read so.

    What OmegaConf does with ``structured`` and ``merge``, ten times as fast, and each error says
    which key it is about and what is allowed there.

    Raises
    ------
    InputError
        At the first key that ``hint`` lacks, or whose value it excludes.
    """
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and NoneType in options:
        return None
    kind = options[0]
    if kind is Any:
        return value
    if kind is ModelSection and isinstance(value, dict):
        try:
            kind = networks.find(value).Model
        except InputError as error:  # of a section ``model``, wherever it is
            inner = key + error.key.removeprefix("model")
            raise InputError(inner, error.value, error.expected) from None
    if is_dataclass(kind):
        known = hints(kind)
        if not isinstance(value, dict):
            words = f"a section with the keys {', '.join(known)}"
            raise InputError(key or "configuration", value, words)
        parts = {}
        for name, part in value.items():
            inner = f"{key}.{name}" if key else str(name)
            if name not in known:
                raise InputError(inner, name, _one_of_keys(key or "params.yaml", name, known))
            parts[name] = _convert(inner, part, known[name])
        for part in fields(kind):
            if part.name not in parts and part.default is part.default_factory is MISSING:
                raise InputError(key, value, f"a section that has the key {part.name}")
        return kind(**parts)
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise InputError(key, value, "a section of named sections")
        for name in value:
            if not isinstance(name, str):
                raise InputError(key, name, "text as a name")
        return {name: _convert(f"{key}.{name}", v, get_args(kind)[1]) for name, v in value.items()}
    if get_origin(kind) is list:
        if not isinstance(value, list):
            raise InputError(key, value, "a list")
        return [_convert(f"{key}[{i}]", v, get_args(kind)[0]) for i, v in enumerate(value)]
    allowed, node = LEAVES[kind]
    try:
        converted = node(value)._value()
    except OmegaConfBaseException:
        converted = None
    if converted is None:
        raise InputError(key, value, allowed + (" or null" if NoneType in options else ""))
    return converted


def _one_of_keys(section: str, name: object, known: Iterable[str]) -> str:
    """What an :class:`InputError` expects in the place of the unknown key ``name``."""
    close = difflib.get_close_matches(str(name), known, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"a key of {section} ({', '.join(known)}){hint}"


def _at(values: Any, key: str) -> Any:
    """What ``values`` hold at a dotted key; the innermost that there is."""
    for part in re.findall(r"[^.\[\]]+", key):
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
    return values


def from_mapping(values: Any) -> Config:
    """Turn a mapping (nested dict or OmegaConf) into a validated :class:`Config`.

    Raises
    ------
    InputError
        For an unknown key, a value of the wrong type or an impossible value.
    """
    raw = values
    try:
        given = OmegaConf.create(values)
        raw = OmegaConf.to_container(given)
        plain = OmegaConf.to_container(given, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "configuration"
        reason = (str(error).splitlines() or ["a value that can be read"])[0]
        raise InputError(key, _at(raw, key), reason) from None
    return validate(_convert("", plain, Config))


def load(path: str | Path = "params.yaml") -> Config:
    """Read and validate ``params.yaml``.

    Raises
    ------
    InputError
        If the file is missing, no YAML, lacks a section, or holds an unknown key or an impossible
        value.
    """
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        # What is written out holds neither. A few nested aliases can be any amount of memory; and
        # DVC, which reads this file too, does not fill interpolations in.
        outermost = None
        for index, event in enumerate(yaml.parse(text, yaml.CSafeLoader)):
            outermost = event if index == 2 else outermost  # after those of stream and document
            if isinstance(event, yaml.AliasEvent) or "${" in getattr(event, "value", ""):
                words = "YAML without aliases (*name) and interpolations (${name})"
                raise InputError("params.yaml", str(path), words)
        values = OmegaConf.load(path)
    except FileNotFoundError:
        raise InputError(
            "params.yaml", str(path), "an existing file; `lrrt compose` writes it"
        ) from None
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError("params.yaml", str(path), f"readable YAML ({reason})") from None
    known = hints(Config)
    if not isinstance(outermost, yaml.MappingStartEvent) or not values:
        words = f"sections ({', '.join(known)}); `lrrt compose` writes them"
        raise InputError("params.yaml", str(path), words)
    # A study does not run on defaults that its file leaves unsaid. (Of a section that is misspelt
    # from_mapping says more.)
    lacking = [section for section in known if not values.get(section)]
    if lacking and not set(values) - set(known):
        words = f"a section of {path} with its keys; `lrrt compose` writes them"
        raise InputError(lacking[0], values.get(lacking[0]), words)
    return from_mapping(values)
