"""The report as one self-contained HTML page: no request leaves it, every name is escaped."""

import base64
import hashlib
import json
import re
from importlib import resources

import jinja2
from markupsafe import Markup

from lrrt.analysis.claims import decision_rules
from lrrt.analysis.divergence import OUTCOMES
from lrrt.report.figures import Drawing
from lrrt.report.study import StudyData
from lrrt.report.style import number
from lrrt.report.tables import Table, cells


def inline(svg: bytes, prefix: str) -> Markup:
    """An SVG file of ours as part of a page: its ids made its own by ``prefix``, sized by CSS."""
    text = svg[svg.index(b"<svg") :].decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)  # is in ours
    root, rest = text.split(">", 1)
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', root)[1])  # points
    root = re.sub(r' (width|height|version|xmlns)="[^"]*"', "", root)
    rest = re.sub(r'\bid="', f'id="{prefix}-', rest)
    rest = rest.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    rest = re.sub(r"\n\s*", "\n", rest)
    size = f"min-width: {0.72 * width:.0f}px; max-width: {1.4 * width:.0f}px"
    # Safe: matplotlib escapes what it writes, and names in it are text or drawn as shapes.
    return Markup(f'{root} style="{size}" aria-hidden="true">{rest}')


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def environment() -> jinja2.Environment:
    """Templates of this package; what they are given is escaped, what they lack is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("lrrt.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number}
    return made


def page(
    data: StudyData,
    drawings: list[Drawing],
    images: dict[str, dict[str, bytes]],
    tables: list[Table],
    claims: list[dict],
    brief: list[str],
    params: str,
) -> str:
    """The page's HTML.

    Parameters
    ----------
    images : dict
        By a drawing's name, its files by kind; ``svg`` goes into the page.
    brief : list of str
        The sentences of the answer.
    params : str
        The study's configuration, YAML.
    """
    script = (resources.files("lrrt.report") / "hover.js.j2").read_text().strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sections: dict[str, list[dict]] = {}
    for index, drawing in enumerate(drawings):
        found = images.get(drawing.name)
        sections.setdefault(drawing.section, []).append(
            {"drawing": drawing, "svg": inline(found["svg"], f"f{index}") if found else None}
        )
    rules = decision_rules()
    runs = data.curves.groupby(["backend", "protocol", "sweep"], sort=True)["run"].nunique()
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            config=data.config,
            data=data,
            brief=brief,
            sections=sections,
            tables=[(table, cells(table)) for table in tables if table.shown],
            claims=[claim | {"rule": rules.get(claim["claim"], "")} for claim in claims],
            outcomes=OUTCOMES,
            runs=[(*case, int(count)) for case, count in runs.items()],
            described=json.dumps(data.dataset, indent=2, ensure_ascii=False),
            samples=data_uri(data.samples) if data.samples else None,
            params=params,
            script=Markup(script),
            script_digest=digest,
        )
    )
