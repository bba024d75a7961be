"""Register the typed configuration, so that composing rejects an unknown key or a wrong type."""

from hydra.core.config_store import ConfigStore

from lrrt.config import Config

ConfigStore.instance().store(name="schema", node=Config)
