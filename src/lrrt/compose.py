"""Compose ``conf/`` into ``params.yaml`` without DVC's git machinery."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lrrt.config import Config, from_mapping
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
        raise InputError("overrides", " ".join(overrides), " ".join(kept)) from None
    from_mapping(config)
    return OmegaConf.to_yaml(config)
