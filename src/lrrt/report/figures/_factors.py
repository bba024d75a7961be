"""What the figures of the factors between two protocols have in common."""

from collections.abc import Mapping


def words(factor: str) -> str:
    """A factor's name as people write it."""
    return factor.replace("_", " ")


def told(effect: Mapping) -> bool:
    """Whether an effect is told from none. (Of one run, which has no interval, it is as it is.)"""
    return not effect["low"] <= 0 <= effect["high"]
