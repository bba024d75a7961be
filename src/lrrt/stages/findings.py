"""``python -m lrrt.stages.findings``: writes docs/findings.md from the two committed studies."""

import argparse
from pathlib import Path

from lrrt.claims import judge
from lrrt.errors import one_line_errors
from lrrt.files import write_whole
from lrrt.report import findings, verdicts
from lrrt.report.study import StudyData, load
from lrrt.stages.claims import configuration_of

STUDIES = ("blog", "resnet20")


def studies(root: Path = Path(".")) -> list[StudyData]:
    """The committed studies, the one at the post's scale first."""
    return [load(configuration_of(name, root), root) for name in STUDIES]


def page(root: Path = Path(".")) -> str:
    found = studies(root)
    return findings.page(*found, verdicts.records(judge(found)), findings.coverage(root))


def main(arguments: list[str] | None = None) -> None:
    """In a checkout of the repository; of no study's pipeline, since it is of two."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_line_errors():
        write_whole(Path("docs/findings.md"), page().encode())


if __name__ == "__main__":
    main()
