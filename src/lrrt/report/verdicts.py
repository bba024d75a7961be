"""The claims as records (``claims.json``) and as a table, with their sentences."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lrrt.claims import Claim, Judge
from lrrt.claims.verdict import Effect, Result, Verdict
from lrrt.errors import InputError
from lrrt.report import wording

NO_EFFECT = {
    name: None
    for name in (
        *("quantity", "value", "low", "high", "unit", "none", "smallest"),
        *("p", "p_equivalence"),
    )
}


def records(claims: Sequence[Claim]) -> list[dict]:
    """One mapping a claim, JSON values only.

    ``number``, ``claim`` (as the post says it), ``short``, ``verdict`` (a grade), ``about`` (the
    part that it names), ``evidence`` (one sentence); of the main result ``effect`` (with interval,
    unit and what it is held against, in words), ``value``, ``interval``, ``unit``, ``none`` and
    ``smallest`` (the effect that matters), None where it has no effect; ``robust``, ``units``
    (independent sets of weights), ``missing`` (the runs that would decide), ``after_holm``,
    ``exploratory``, ``rule`` and ``results``, whose fields are those of
    :class:`lrrt.claims.verdict.Result` and :class:`lrrt.claims.verdict.Effect`.
    """
    return [
        {
            "number": claim.number,
            "claim": claim.text,
            "short": claim.short,
            "verdict": str(claim.grade),
            "about": wording.about(claim.verdict),
            "evidence": wording.sentence(claim.verdict),
            **_main_effect(claim.verdict),
            "robust": claim.verdict.main.robust if claim.verdict.main else "",
            "units": claim.verdict.main.units if claim.verdict.main else 0,
            "missing": claim.verdict.missing,
            "after_holm": claim.after_holm,
            "exploratory": claim.exploratory,
            "rule": claim.rule,
            "results": [_result(result) for result in claim.verdict.results],
        }
        for claim in claims
    ]


def record_of(found: Sequence[dict], judge: Judge) -> dict:
    """Of :func:`records` that of the claim which ``judge`` decides."""
    return next(record for record in found if record["number"] == judge.claim[0])


def _main_effect(verdict: Verdict) -> dict:
    effect = verdict.main.effect if verdict.main else None
    fields = NO_EFFECT if effect is None else _effect(effect)
    ends = [fields["low"], fields["high"]]
    return {
        "effect": "" if effect is None else wording.judged(effect),
        "value": fields["value"],
        "interval": None if None in ends else ends,
        **{name: fields[name] for name in ("unit", "none", "smallest")},
    }


def _result(result: Result) -> dict:
    return {
        "part": wording.part(result.part),
        "scale": wording.scales(result),
        "grade": str(result.grade),
        "finding": wording.finding(result.finding, result),
        **(_effect(result.effect) if result.effect else NO_EFFECT),
        "units": result.units,
        "runs": result.runs,
        "robust": result.robust,
        "missing": result.missing,
        "numbers": {name: value for name, value in result.numbers.items() if _plain(value)},
    }


def _plain(value: object) -> bool:
    return isinstance(value, str | int) or isinstance(value, float) and math.isfinite(value)


def _effect(effect: Effect) -> dict:
    values = {name: getattr(effect, name) for name in NO_EFFECT}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def table(found: Sequence[dict]) -> pd.DataFrame:
    """One row per result of each of :func:`records`; a claim that was not judged has one."""
    none = {"part": "", "scale": "", "grade": "", "finding": ""} | NO_EFFECT
    none |= {"units": 0, "runs": 0, "robust": "", "missing": ""}
    shared = ("number", "claim", "verdict", "about", "after_holm", "exploratory")
    rows = [
        {name: record[name] for name in shared} | {name: result[name] for name in none}
        for record in found
        for result in record["results"] or [none | {"missing": record["missing"]}]
    ]
    frame = pd.DataFrame(rows, columns=[*shared, *none])
    numeric = ["value", "low", "high", "smallest", "p", "p_equivalence"]
    return frame.astype(dict.fromkeys(numeric, "float64") | {"after_holm": "boolean"})


def holm_line(found: Sequence[dict]) -> str:
    """Which claims stand when all are tested together, and whether their rules were fixed before
    their runs were seen, in a line or two."""
    stand = [str(record["number"]) for record in found if record["after_holm"]]
    line = f"All {len(found)} tested together (Holm, 5 %): the main result of "
    line += f"{wording.listed(stand)} stands." if stand else "none stands."
    if any(record["exploratory"] for record in found):
        line += " Exploratory: rules and margins were last changed when these runs had been seen."
    return line


def path(folder: Path, beside: str | None) -> Path:
    """Where the claims stage writes the :func:`records` of a report in ``folder``."""
    return folder / "claims" / f"{beside or 'alone'}.json"


def read(folder: Path, beside: str | None) -> list[dict]:
    """The :func:`records` that the claims stage has written.

    Raises
    ------
    InputError
        If the file is missing, cut, or of an older format; the message names the command.
    """
    file, command = path(folder, beside), "python -m lrrt.stages.claims"
    command += f" --beside {beside}" if beside else ""
    try:
        found = json.loads(file.read_text())
        if all({"number", "results", "robust"} <= set(record) for record in found) and found:
            return found
        wanted = f"a list of graded claims; it is of an older format, `{command}` makes it anew"
    except FileNotFoundError:
        wanted = f"a file; `{command}` writes it"
    except (ValueError, TypeError) as error:
        wanted = f"a JSON file; {error}, `{command}` makes it anew"
    raise InputError("claims", str(file), wanted)
