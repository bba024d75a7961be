"""All rules by name: those that read the loss and those that read the accuracy."""

from types import ModuleType

from lrrt import plugins
from lrrt.errors import InputError

#: fastai's default, the rule that most people's suggestions come from; `lrrt compare` shows all.
DEFAULT_RULE = "fastai_valley"
OF_LOSS, OF_ACCURACY = "lrrt.core.rules", "lrrt.core.accuracy_rules"


def names() -> list[str]:
    """Of all rules, sorted."""
    return sorted([*plugins.names(OF_LOSS), *plugins.names(OF_ACCURACY)])


def reads_accuracy(rule: str) -> bool:
    """Whether ``rule`` is to be given the accuracy, not the loss."""
    return rule in plugins.names(OF_ACCURACY)


def check(rule: object) -> None:
    """Raise :class:`lrrt.InputError` unless there is a rule called ``rule``."""
    if rule not in names():
        raise InputError("rule", rule, f"one of: {', '.join(names())}")


def find(rule: str) -> ModuleType:
    """The module of ``rule``, with its ``suggest``.

    Raises
    ------
    InputError
        If there is none; the message lists those that exist.
    """
    check(rule)
    return plugins.find(OF_ACCURACY if reads_accuracy(rule) else OF_LOSS, rule, "rule")
