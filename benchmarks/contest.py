"""``contest.py MODULE FUNCTION CASE_AS_JSON OUTPUT``: one contestant, in its own process."""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

# Before anything is imported: what a cold start is counted from.
STARTED = time.perf_counter()

if __name__ == "__main__":
    module, function, case_text, output = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parent))
    if os.environ.get("LRRT_WORKER", "").startswith("keras"):
        import lrrt.backends.keras  # noqa: F401  first of all: it sets TensorFlow up
    from case import Case, Notes

    case, notes = Case(**json.loads(case_text)), Notes()
    getattr(importlib.import_module(f"contestants.{module}"), function)(case, notes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    notes.write(Path(output), started=STARTED, peak_mib=round(peak))
