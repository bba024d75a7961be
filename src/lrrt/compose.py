"""Compose ``conf/`` into ``params.yaml`` without DVC's git machinery."""

import difflib
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lrrt import plugins
from lrrt.config import Config, from_mapping
from lrrt.config.reading import hints
from lrrt.errors import InputError


def register_schema() -> None:
    """Of Hydra's types. A network's depend on its name, so of these only the keys are checked."""
    schema = OmegaConf.structured(Config)
    schema.model = {}
    ConfigStore.instance().store(name="schema", node=schema)


def composed_yaml(conf: Path, overrides: list[str]) -> str:
    """The text of ``params.yaml`` for ``overrides``, as ``dvc exp run -S ...`` would write it.

    Raises
    ------
    InputError
        For an override that Hydra, the types or the validation refuse.
    """
    if not (conf / "config.yaml").is_file():
        raise InputError("conf", str(conf), "a folder with config.yaml; run in the repository")
    register_schema()
    try:
        with initialize_config_dir(str(conf.resolve()), version_base=None):
            config = compose(config_name="config", overrides=overrides)
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # of `=3`, a ValueError
        for override in overrides:
            _check_key(conf, override)
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = [line.strip() for line in f"{error}\n{cause}".splitlines() if line.strip()]
        noise = (
            "set the environment",
            "full_key",
            "object_type",
            "reference_type",
            "config search path",
            "provider=",
        )
        kept = [line for line in dict.fromkeys(lines) if not line.lower().startswith(noise)]
        words = f"overrides that Hydra accepts; {' '.join(kept)}"
        raise InputError("overrides", " ".join(overrides), words) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError("conf", str(conf), f"YAML ({' '.join(str(error).split())})") from None
    from_mapping(config)
    for section in hints(Config):
        if not config.get(section):  # removed; DVC would look for it
            raise InputError("overrides", " ".join(overrides), f"one that leaves {section}")
    return OmegaConf.to_yaml(config)


def _check_key(conf: Path, override: str) -> None:
    """Refuse ``key=value`` whose key, or whose member of a group, is near one that there is and is
    none itself."""
    key, _, value = override.partition("=")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", key) or "=" not in override:
        return  # what is added, taken away or within a list is Hydra's to judge
    names = {option.group: [] for option in options(conf)}
    for option in options(conf):
        names[option.group].append(option.name)
    if key in names:
        if value not in [*names[key], "null"]:
            raise InputError(key, value, plugins.one_of(names[key], value))
        return
    known = {*changes("", composed_yaml(conf, [])), *names}
    sections = {key[:end] for key in known for end in range(len(key)) if key[end] == "."}
    close = difflib.get_close_matches(key, known, 1, cutoff=0.8)
    if key not in known | sections and close:
        raise InputError("overrides", override, f"a key of the study; did you mean {close[0]}?")


def written(path: Path) -> str:
    """The text of a ``params.yaml``; empty where there is none, or it is damaged (a merge that
    conflicts) and is replaced whole."""
    try:
        text = path.read_text() if path.is_file() else ""
        changes(text, "")
    except (UnicodeDecodeError, AssertionError, OmegaConfBaseException, yaml.YAMLError):
        print(f"{path.name} was no YAML mapping, and is replaced.", file=sys.stderr)
        return ""
    return text


def changes(before: str, after: str) -> dict[str, tuple[Any, Any]]:
    """By dotted key, the two values that a key has in two texts of ``params.yaml`` where they
    differ; None where it has none."""
    old, new = (_flat(OmegaConf.to_container(OmegaConf.create(text))) for text in (before, after))
    return {
        key: (old.get(key), new.get(key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) or (key in old) != (key in new)
    }


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict) or not values:
        return {prefix: values} if prefix else {}
    found = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


class Option(NamedTuple):
    """A file of a config group: ``about``, its first comment; whether the study takes it unless
    asked otherwise."""

    group: str
    name: str
    about: str
    default: bool


def options(conf: Path) -> list[Option]:
    """What each group of ``conf/`` offers; the study that is taken may override what is taken."""
    chosen = _defaults(conf / "config.yaml")
    study = conf / "study" / f"{dict(chosen)['study']}.yaml"
    overridden = _defaults(study, "override /")
    chosen = {(group, name) for group, name in chosen if group not in dict(overridden)}
    chosen |= overridden | _defaults(study, "/")
    return [
        Option(path.parent.name, path.stem, _about(path), (path.parent.name, path.stem) in chosen)
        for path in sorted(conf.glob("*/*.yaml"))
    ]


def _defaults(path: Path, prefix: str = "") -> set[tuple[str, str]]:
    """Group and name of those entries of a file's defaults list that begin so."""
    entries = OmegaConf.to_container(OmegaConf.load(path)).get("defaults", [])
    return {
        (key.removeprefix(prefix).partition("@")[0], name)
        for entry in entries
        if isinstance(entry, dict)
        for key, name in entry.items()
        if key.startswith(prefix)
    }


def _about(path: Path) -> str:
    """The first sentence of the comment at the top."""
    words = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            words.append(line.lstrip("# "))
    return re.split(r"(?<=\.)\s", " ".join(words))[0].strip()
