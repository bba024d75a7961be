"""Build what an index is given, and check it: ``python -m reliability.distribution FOLDER URL``.

An index shows the README without the repository around it. So links and images get absolute
addresses, in a copy of the commit: ``URL/blob/COMMIT/...`` and ``URL/raw/COMMIT/...``, as code
forges have them. Project links come from ``URL``, too. Needs ``build`` and ``twine``.
"""

import argparse
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
SOURCE = re.compile(r'(<img[^>]*?\bsrc=|<a[^>]*?\bhref=)"([^"]+)"')


def absolute(text: str, url: str, commit: str) -> str:
    """Markdown whose links within the repository lead to a forge."""

    def address(target: str, is_image: bool) -> str:
        if urlsplit(target).scheme or target.startswith("#"):
            return target
        return f"{url}/{'raw' if is_image else 'blob'}/{commit}/{target}"

    text = LINK.sub(lambda m: f"{m[1]}[{m[2]}]({address(m[3], bool(m[1]))})", text)
    return SOURCE.sub(lambda m: f'{m[1]}"{address(m[2], m[1].startswith("<img"))}"', text)


def with_links(pyproject: str, url: str) -> str:
    """``pyproject.toml`` with the project's links."""
    links = {"Homepage": "", "Issues": "/issues", "Changelog": "/blob/main/CHANGELOG.md"}
    lines = "\n".join(f'{name} = "{url}{path}"' for name, path in links.items())
    return pyproject.replace("[project.scripts]", f"[project.urls]\n{lines}\n\n[project.scripts]")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the two files of the distribution")
    parser.add_argument("url", help="of the repository on its forge")
    options = parser.parse_args()
    url = options.url.rstrip("/")
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    archive = subprocess.check_output([*git, "archive", "HEAD", ".", ":!reports", ":!data"])
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        tarfile.open(fileobj=io.BytesIO(archive)).extractall(copy, filter="data")
        readme, pyproject = copy / "README.md", copy / "pyproject.toml"
        readme.write_text(absolute(readme.read_text(), url, commit))
        pyproject.write_text(with_links(pyproject.read_text(), url))
        built = options.folder.absolute()
        subprocess.run([sys.executable, "-m", "build", "--outdir", built, copy], check=True)
    files = sorted(map(str, built.glob("lrrt-*")))
    return subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files]).returncode


if __name__ == "__main__":
    sys.exit(main())
