"""What our self-contained pages have in common: SVG within, templates, the one script."""

import base64
import hashlib
import re
from importlib import resources

import jinja2
from markupsafe import Markup

from lrrt.report.style import DARK
from lrrt.report.wording import number

_DARK = {light.lower(): dark for light, dark in DARK.items()}


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
    rest = re.sub(r"(fill|stroke): (#[0-9a-f]{6})", _themed, rest)
    size = f"max-width: {1.6 * width:.0f}px"
    # Safe: matplotlib escapes what it writes, and names in it are text or drawn as shapes.
    return Markup(f'{root} style="{size}" aria-hidden="true">{rest}')


def _themed(match: re.Match) -> str:
    """A colour that a dark page shows otherwise, as a variable of the page; it is itself where the
    page knows none."""
    kind, colour = match.groups()
    return f"{kind}: var(--{colour[1:]}, {colour})" if colour in _DARK else match[0]


def dark_colours() -> str:
    """The variables of :func:`inline` as a dark page sets them, CSS."""
    return " ".join(f"--{light[1:]}: {dark};" for light, dark in _DARK.items())


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def hover_script() -> tuple[str, str]:
    """The script that shows an SVG's titles, and its digest for the page's security policy."""
    script = (resources.files("lrrt.report") / "hover.js").read_text().strip()
    return script, base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def environment(package: str) -> jinja2.Environment:
    """The templates in ``package``: what they are given is escaped, what they lack is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number}
    return made
