"""``python -m lrrt.stages.fill``: a study's range tests, each sweep's first, then its second...

No DVC stage: it fills the store, from which the sweep stages then take what they find. Stopped at
any moment, it leaves a smaller study of all sweeps instead of one sweep of a large study.
"""

import argparse

from lrrt import config as configuration
from lrrt.errors import one_line_errors
from lrrt.runs import study
from lrrt.runs.plan import rounds


def main(arguments: list[str] | None = None) -> None:
    """Carry out the study's range tests, round by round."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with one_line_errors():
        config = configuration.load()
        for specs in rounds(config, study.dataset(config).digest):
            study.carry_out(config, specs)


if __name__ == "__main__":
    main()
