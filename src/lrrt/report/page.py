"""The report as one self-contained HTML page: no request leaves it, every name is escaped."""

import json

from markupsafe import Markup

from lrrt.experiments.transfer.tables import OUTCOMES
from lrrt.report import summary, verdicts
from lrrt.report.figures import ANSWER, APPENDIX, SECTIONS, Drawing
from lrrt.report.html import dark_colours, data_uri, environment, hover_script, inline
from lrrt.report.study import StudyData
from lrrt.report.tables import Table, cells

EMBEDDED = ("digits", "digits8x8", "text")  # data sets that make a toy of a study


def page(
    data: StudyData,
    drawings: list[Drawing],
    images: dict[str, dict[str, bytes]],
    tables: list[Table],
    claims: list[dict],
    brief: list[tuple[str, str]],
    params: str,
) -> str:
    """The page's HTML.

    Parameters
    ----------
    images : dict
        By a drawing's name, its files by kind; ``svg`` goes into the page.
    brief : list of (str, str)
        The sentences of the answer, each with the anchor of what shows it (or nothing).
    params : str
        The study's configuration, YAML.
    """
    script, digest = hover_script()
    sections: dict[str, list[dict]] = {name: [] for name in SECTIONS}
    for index, drawing in enumerate(drawings):
        svg = inline(images[drawing.name]["svg"], f"f{index}")
        sections[drawing.section].append({"drawing": drawing, "svg": svg})
    hero, appendix = sections.pop(ANSWER), sections.pop(APPENDIX)
    shown = {*images, "claims"}  # what can be led to
    return (
        environment("lrrt.report")
        .get_template("report.html.j2")
        .render(
            config=data.config,
            data=data,
            toy=data.config.data.name in EMBEDDED,
            brief=[(words, anchor if anchor in shown else "") for words, anchor in brief],
            limits=summary.limits(data),
            numbers=summary.key_numbers(data, claims),
            hero=hero,
            sections={name: entries for name, entries in sections.items() if entries},
            appendix=appendix,
            dark=Markup(dark_colours()),
            tables=[(table, cells(table)) for table in tables if table.shown],
            claims=claims,
            holm=verdicts.holm_line(claims),
            outcomes=OUTCOMES,
            runs=data.runs(),
            described=json.dumps(data.dataset, indent=2, ensure_ascii=False),
            samples=data_uri(data.samples) if data.samples else None,
            params=params,
            script=Markup(script),
            script_digest=digest,
        )
    )
