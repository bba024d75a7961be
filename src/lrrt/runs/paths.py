"""Where a study's files lie."""

from pathlib import Path

from lrrt.config import Config


def folder(config: Config) -> Path:
    """``data/<study>``, relative to the working directory."""
    return Path("data") / config.study.name


def store_path(config: Config) -> Path:
    return folder(config) / "store"


def dataset_path(config: Config) -> Path:
    return folder(config) / "dataset.safetensors"
