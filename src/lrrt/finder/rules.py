"""All rules by name: those that read the loss and those that read the accuracy."""

import json
from dataclasses import dataclass
from importlib import resources
from statistics import mean
from types import ModuleType

from lrrt import plugins
from lrrt.errors import InputError

OF_LOSS, OF_ACCURACY = "lrrt.core.rules", "lrrt.core.accuracy_rules"


@dataclass(frozen=True)
class ExpectedCost:
    """Mean loss of accuracy, in points, against the best rate of ``settings`` settings, its 95 %
    interval ``low`` to ``high``, and the share of trainings that collapsed. ``worst``: what nine of
    ten new settings stay below (None where the settings are too few to say)."""

    points: float
    low: float
    high: float
    settings: int
    collapsed: float
    worst: float | None = None

    def sentence(self, rule: str, schedule: str) -> str:
        found = (
            f"In {self.settings} settings (network, data, optimiser) whose best rate is known, "
            f"training with {schedule} at what {rule} suggests cost {self.points:.1f} points of "
            f"accuracy on average (95 % interval {self.low:.1f} to {self.high:.1f}); "
            f"{100 * self.collapsed:.0f} % of these trainings gained less than half of what the "
            "best rate gains."
        )
        if self.worst is None:
            return found
        return (
            f"{found} In nine of ten new settings it should cost less than {self.worst:.1f} points."
        )


Costs = dict[tuple[str, str], ExpectedCost]


def by_rule(rows: list[dict]) -> Costs:
    """By rule and schedule what ``expected_cost.json`` lists."""
    return {(row.pop("rule"), row.pop("schedule")): ExpectedCost(**row) for row in rows}


def _expected_costs() -> Costs:
    file = resources.files(__package__) / "expected_cost.json"
    return by_rule(json.loads(file.read_text())) if file.is_file() else {}


#: What training at a rule's suggestion costs, by rule and schedule (``constant``, ``one_cycle``):
#: the ground truth's, filled in by ``docs/generate.py``. An audit prints it beside its advice.
EXPECTED = _expected_costs()


def mean_costs(costs: Costs) -> dict[str, float]:
    """Points lost over both schedules, by rule that has a cost with both."""
    schedules = {schedule for _, schedule in costs}
    of_rule = {
        rule: [costs[rule, s].points for s in schedules if (rule, s) in costs] for rule, _ in costs
    }
    return {rule: mean(points) for rule, points in of_rule.items() if len(points) == len(schedules)}


def cheapest(costs: Costs) -> str:
    """The rule that loses least over both schedules; of equal ones (to a tenth of a point) the one
    that collapses less often, then the first by name."""
    means = mean_costs(costs)

    def place(rule: str) -> tuple[float, float, str]:
        collapsed = sum(cost.collapsed for (name, _), cost in costs.items() if name == rule)
        return round(means[rule], 1), collapsed, rule

    return min(means, key=place, default="edge")


#: The rule of `curve.suggest()`, audits and callbacks (docs/which_rule.md).
DEFAULT_RULE = cheapest(EXPECTED)


def names() -> list[str]:
    """Of all rules, sorted."""
    return sorted([*plugins.names(OF_LOSS), *plugins.names(OF_ACCURACY)])


def reads_accuracy(rule: str) -> bool:
    """Whether ``rule`` is to be given the accuracy, not the loss."""
    return rule in plugins.names(OF_ACCURACY)


def check(rule: object) -> None:
    """Raise :class:`lrrt.InputError` unless there is a rule called ``rule``."""
    if rule not in names():
        raise InputError("rule", rule, plugins.one_of(names(), rule))


def find(rule: str) -> ModuleType:
    """The module of ``rule``, with its ``suggest``.

    Raises
    ------
    InputError
        If there is none; the message lists those that exist.
    """
    check(rule)
    return plugins.find(OF_ACCURACY if reads_accuracy(rule) else OF_LOSS, rule, "rule")
