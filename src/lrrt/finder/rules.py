"""All rules by name: those that read the loss and those that read the accuracy."""

from dataclasses import dataclass
from types import ModuleType

from lrrt import plugins
from lrrt.errors import InputError

#: fastai's default, the rule that most people's suggestions come from; `lrrt compare` shows all.
DEFAULT_RULE = "fastai_valley"
#: What training at a rule's suggestion costs on average, by rule and schedule (``constant``,
#: ``one_cycle``), from the ground truth; an audit prints it beside its recommendation.
EXPECTED: "dict[tuple[str, str], ExpectedCost]" = {}
OF_LOSS, OF_ACCURACY = "lrrt.core.rules", "lrrt.core.accuracy_rules"


@dataclass(frozen=True)
class ExpectedCost:
    """Mean loss of accuracy, in points, against the best rate of ``settings`` settings, its 95 %
    interval ``low`` to ``high``, and the share of trainings that collapsed."""

    points: float
    low: float
    high: float
    settings: int
    collapsed: float

    def sentence(self, rule: str, schedule: str) -> str:
        return (
            f"In {self.settings} settings with known best rates, training at what {rule} suggests "
            f"with {schedule} cost {self.points:.1f} points of accuracy on average (95 % interval "
            f"{self.low:.1f} to {self.high:.1f}); {100 * self.collapsed:.0f} % of such trainings "
            "collapsed."
        )


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
