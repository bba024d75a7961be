"""What the shipped studies ask for is what their committed stores hold."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lrrt.analysis.divergence import planned
from lrrt.compose import composed_yaml
from lrrt.config import Config, from_mapping
from lrrt.runs import crossed, ladder, probes
from lrrt.runs.plan import sweep_specs
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Store

ROOT = Path(__file__).parents[1]


def asked(config: Config, digest: str, suggestions: pd.DataFrame) -> dict[str, list[RunSpec]]:
    """All runs of a study, by the stage that they are for."""
    restarts = probes.restarts(config, digest)
    return {
        "sweep": [spec for case in config.cases for spec in sweep_specs(config, digest, *case)],
        "attribution": ladder.specs_of(ladder.rungs(config, digest)),
        "variance": [cell.spec for cell in crossed.cells(config, digest)],
        "instrument": [
            *(spec for variant in probes.variants(config, digest) for spec in variant.specs),
            *(spec for restart in restarts for spec in (restart.spec, restart.ramp)),
        ],
        "mechanism": [probe.spec for probe in probes.probes(config, digest)],
        "divergence": [training.spec for training in planned(config, digest, suggestions)[1]],
    }


# ResNet-20's attribution and the like are the blog study's (conf/study/resnet20.yaml).
@pytest.mark.parametrize("study, stores", [("blog", ["blog"]), ("resnet20", ["resnet20", "blog"])])
def test_the_stores_have_every_run_of_the_shipped_studies(study, stores):
    config = from_mapping(yaml.safe_load(composed_yaml(ROOT / "conf", [f"study={study}"])))
    folder = ROOT / "data" / study
    digest = json.loads((folder / "dataset.json").read_text())["digest"]
    runs = asked(config, digest, pd.read_parquet(folder / "suggestions.parquet"))
    assert all(runs.values())
    kept = [Store(ROOT / "data" / name / "store") for name in stores]
    missing = {
        f"{part}: {spec.key[:12]}, {spec.kind} of {spec.backend} on {spec.device}"
        for part, specs in runs.items()
        for spec in specs
        if not any(store.file(spec.key).is_file() for store in kept)
    }
    assert missing == set()
