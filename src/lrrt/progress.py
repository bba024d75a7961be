"""Where in the pipeline a stage stands, for who watches it."""

import sys
from pathlib import Path

import yaml


def announce(stage: str) -> None:
    """Say on standard error which of the stages of ``dvc.yaml`` begins: ``stage 3 of 10: suggest``.
    Nothing without that file, or for a stage that it does not have."""
    pipeline = Path("dvc.yaml")
    if pipeline.is_file():
        stages = list(yaml.safe_load(pipeline.read_text())["stages"])
        if stage in stages:
            number = f"stage {stages.index(stage) + 1} of {len(stages)}"
            print(f"{number}: {stage}", file=sys.stderr, flush=True)
