"""What ``pyproject.toml`` cannot say: the project's links, and a README for a package index.

An index shows the README without the repository around it. ``LRRT_REPOSITORY_URL`` names the
repository's address on GitHub (or a forge with the same paths); links to files then become
``URL/blob/main/...``, images ``URL/raw/main/...``. Without it, relative links stay.
"""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

POST = "https://blog.dataiku.com/the-learning-rate-finder-technique-how-reliable-is-it"
TARGET = re.compile(
    r"^```.*?^```"  # code stays
    r"|(?P<image>!\[[^\]]*\]\(|<img\b[^>]*?\bsrc=\"|<source\b[^>]*?\bsrcset=\")(?P<source>[^)\"\s]+)"
    r"|(?P<link>\]\(|<a\b[^>]*?\bhref=\")(?P<path>[^)\"\s]+)",
    re.M | re.S,
)


def absolute(text: str, url: str) -> str:
    """Markdown whose links within the repository lead to ``url``."""

    def replaced(match: re.Match) -> str:
        kind = "raw" if match["image"] else "blob"
        target = match["source"] or match["path"]
        if target is None or urlsplit(target).scheme or target.startswith("#"):
            return match[0]
        return f"{match['image'] or match['link']}{url}/{kind}/main/{target}"

    return TARGET.sub(replaced, text)


def metadata(readme: str, url: str | None) -> dict:
    """The arguments of ``setup``; ``url`` is the repository's, if it is known."""
    links = {"Blog post": POST}
    if url:
        url = url.rstrip("/")
        if urlsplit(url).scheme != "https":
            raise SystemExit(f"LRRT_REPOSITORY_URL: expected https://..., got {url!r}")
        readme = absolute(readme, url)
        links |= {
            "Source": url,
            "Documentation": f"{url}/blob/main/docs/index.md",
            "Changelog": f"{url}/blob/main/CHANGELOG.md",
            "Issues": f"{url}/issues",
        }
    return {
        "long_description": readme,
        "long_description_content_type": "text/markdown",
        "project_urls": links,
    }


if __name__ == "__main__":
    from setuptools import setup

    readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    setup(**metadata(readme, os.environ.get("LRRT_REPOSITORY_URL")))
