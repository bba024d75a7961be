"""The README that an index is given leads to the forge; the project's links are there."""

import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from reliability.distribution import LINK, SOURCE, absolute, with_links

ROOT = Path(__file__).parents[1]
URL = "https://forge.example/them/lrrt"


def test_links_of_the_readme_are_absolute():
    made = absolute((ROOT / "README.md").read_text(), URL, "c0ffee")
    targets = [m[3] for m in LINK.finditer(made)] + [m[2] for m in SOURCE.finditer(made)]
    assert targets and all(urlsplit(target).scheme or target[0] == "#" for target in targets)
    assert absolute("![a](b/c.png) [d](e.md#f) [g](#h)", URL, "x") == (
        f"![a]({URL}/raw/x/b/c.png) [d]({URL}/blob/x/e.md#f) [g](#h)"
    )
    for path in re.findall(rf"{re.escape(URL)}/(?:raw|blob)/c0ffee/([^)\s\"#]+)", made):
        assert (ROOT / path).exists()


def test_project_links_are_added():
    made = tomllib.loads(with_links((ROOT / "pyproject.toml").read_text(), URL))["project"]
    assert made["urls"]["Issues"] == f"{URL}/issues" and made["scripts"]
