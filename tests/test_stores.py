"""What the shipped studies ask for is what their committed stores hold."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lrrt import plugins
from lrrt.compose import composed_yaml
from lrrt.config import from_mapping
from lrrt.runs.store import Store
from lrrt.stages.experiment import make_design

ROOT = Path(__file__).parents[1]


# ResNet-20's attribution and the like are the blog study's (conf/study/resnet20.yaml).
@pytest.mark.parametrize("study, stores", [("blog", ["blog"]), ("resnet20", ["resnet20", "blog"])])
def test_the_stores_have_every_run_of_the_shipped_studies(study, stores, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = from_mapping(yaml.safe_load(composed_yaml(ROOT / "conf", [f"study={study}"])))
    described = json.loads((ROOT / "data" / study / "dataset.json").read_text())
    dataset = SimpleNamespace(digest=described["digest"], classes=described["classes"])
    runs = {
        name: make_design(name, config, dataset).specs for name in plugins.names("lrrt.experiments")
    }
    runs = {name: specs for name, specs in runs.items() if specs}
    assert len(runs) >= 6
    kept = [Store(ROOT / "data" / name / "store") for name in stores]
    missing = {
        f"{part}: {spec.key[:12]}, {spec.kind} of {spec.backend} on {spec.device}"
        for part, specs in runs.items()
        for spec in specs
        if not any(store.file(spec.key).is_file() for store in kept)
    }
    assert missing == set()
