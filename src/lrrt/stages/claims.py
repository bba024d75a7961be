"""``python -m lrrt.stages.claims``: the post's claims, judged on the runs of a study or of two."""

import argparse
import json
from pathlib import Path

from lrrt import config as configuration
from lrrt.claims import judge
from lrrt.errors import InputError, one_line_errors
from lrrt.files import write_whole
from lrrt.report import verdicts
from lrrt.report.study import JUDGED, load


def main(arguments: list[str] | None = None) -> None:
    """Write ``reports/<study>/claims/alone.json``, or that of the study and another's committed
    tables together, under the other's name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", metavar="STUDY", help="judge its tables together with ours")
    beside = parser.parse_args(arguments).beside
    with one_line_errors():
        configs = [configuration.load()] + ([configuration_of(beside)] if beside else [])
        found = verdicts.records(judge([load(config, only=JUDGED) for config in configs]))
        path = verdicts.path(Path("reports") / configs[0].study.name, beside)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(path, f"{text}\n".encode())


def configuration_of(study: str, root: Path = Path(".")) -> configuration.Config:
    """The configuration that a study's report was made with.

    Raises
    ------
    InputError
        If there is no such report, or its configuration cannot be read.
    """
    path = root / "reports" / study / "params.yaml"
    if not path.exists():
        hint = f"`dvc exp run -S study={study}` writes it"
        raise InputError("report.beside", str(path), f"a file; {hint}")
    return configuration.load(path)


if __name__ == "__main__":
    main()
