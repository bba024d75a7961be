"""The README that an index is given leads to the forge; the project's links are there."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUP = runpy.run_path(str(ROOT / "setup.py"))
URL = "https://forge.example/them/lrrt"


@pytest.mark.parametrize(
    ("relative", "address"),
    [
        ("![a b](b/c.png)", f"![a b]({URL}/raw/main/b/c.png)"),
        ("[d](e.md#f) [g](#h)", f"[d]({URL}/blob/main/e.md#f) [g](#h)"),
        ("[![a](b.png)](c.md)", f"[![a]({URL}/raw/main/b.png)]({URL}/blob/main/c.md)"),
        ('<img alt="x" src="a.png">', f'<img alt="x" src="{URL}/raw/main/a.png">'),
        ('<source\n srcset="a.png">', f'<source\n srcset="{URL}/raw/main/a.png">'),
        ('<a href="b.md">', f'<a href="{URL}/blob/main/b.md">'),
        ("[a](https://b.example/c)", "[a](https://b.example/c)"),
        ("```python\nf[a](b)\n```", "```python\nf[a](b)\n```"),
    ],
)
def test_links_lead_to_the_forge(relative, address):
    assert SETUP["absolute"](relative, URL) == address


def test_each_link_of_the_readme_leads_to_a_file_of_the_forge():
    readme = (ROOT / "README.md").read_text()
    made = SETUP["metadata"](readme, f"{URL}/")
    targets = re.findall(r'(?:\]\(|\b(?:src|srcset|href)=")([^)"\s]+)', made["long_description"])
    assert len(targets) > 10 and all(re.match("https://|#", target) for target in targets)
    addresses = targets + list(made["project_urls"].values())
    paths = [address.split("/main/")[1] for address in addresses if "/main/" in address]
    assert len(paths) > 10 and all((ROOT / path.split("#")[0]).exists() for path in paths)
    assert made["project_urls"]["Issues"] == f"{URL}/issues"


@pytest.mark.parametrize("url", [None, ""])
def test_without_an_address_none_is_invented(url):
    readme = (ROOT / "README.md").read_text()
    made = SETUP["metadata"](readme, url)
    assert made["long_description"] == readme and list(made["project_urls"]) == ["Blog post"]


def test_an_address_that_is_none_is_refused():
    with pytest.raises(SystemExit, match="LRRT_REPOSITORY_URL: expected https"):
        SETUP["metadata"]("", "them/lrrt")
