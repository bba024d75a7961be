"""A new thing is one new module (a folder for an experiment) and its configuration.

A copy of the package gets one more of each kind, with nothing else edited; then a new process lists
it, checks a configuration that has it, and uses it.
"""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: By kind, the new files: their paths within the copy.
FILES = {
    "rule": {
        "src/lrrt/core/rules/halfway.py": """
            from lrrt.core.rules import Suggestion

            def suggest(lr, loss):
                return Suggestion(None, float(lr[len(lr) // 2]))
            """,
    },
    "network": {
        "src/lrrt/core/networks/linear.py": """
            import math
            from dataclasses import dataclass
            from lrrt.core.network import Node
            from lrrt.core.protocol import ModelSection

            @dataclass
            class Model(ModelSection):
                name: str = "linear"
                copies: int = 1

            def validate(model):
                pass

            def nodes(model, shape, classes):
                flat = Node("flatten", "flatten", ("input",), math.prod(shape), shape[-1])
                return [flat, Node("dense", "dense", ("flatten",), classes, flat.channels)]
            """,
        "conf/model/linear.yaml": "name: linear\ncopies: 2\n",
    },
    "data": {
        "src/lrrt/datasets/stripes.py": """
            import numpy as np
            from lrrt.datasets import Dataset, pixel_statistics

            def load(config):
                labels = np.arange(config.train_images) % 2
                images = np.zeros((len(labels), 8, 8, 1), np.uint8)
                images[labels == 1, ::2] = 255
                parts = (images, labels, images[:20], labels[:20])
                return Dataset(*parts, *pixel_statistics(images), ("plain", "striped"), "Stripes.")
            """,
        "conf/data/stripes.yaml": "name: stripes\ntrain_images: 320\ntest_images: 20\n",
    },
    "optimizer": {
        "src/lrrt/core/optimizers/signs.py": """
            READS = ()

            def validate(prefix, protocol):
                pass
            """,
        "src/lrrt/backends/torch/optimizers/signs.py": """
            class start:
                def __init__(self, parameters, protocol):
                    self.parameters = list(parameters.values())

                def update(self, gradients, lr):
                    for parameter, gradient in zip(self.parameters, gradients):
                        parameter -= lr * gradient.sign()

                def state(self):
                    return {}
            """,
        "conf/protocol/signs.yaml": "optimizer: signs\nhome: torch\n",
    },
    "policy": {
        "src/lrrt/runs/policies/halved.py": """
            import numpy as np

            def lrs(lr, total_steps):
                return np.full(total_steps, lr / 2)
            """,
    },
    "figure": {
        "src/lrrt/report/figures/extra.py": """
            from lrrt.report.figures import APPENDIX

            ORDER, SECTION = 999, APPENDIX

            def title(data):
                return "Nothing"

            def caption(data):
                return "Nothing (n = 0)."

            def draw(data):
                return None
            """,
    },
    "claim": {
        "src/lrrt/claims/extra.py": """
            from lrrt.claims import claim
            from lrrt.claims.verdict import not_run

            @claim(99, "extra", "One more.")
            def extra(studies):
                '''Never decided.'''
                return not_run("anything")
            """,
    },
    "experiment": {
        "src/lrrt/experiments/extra/__init__.py": '"""How often?"""\n',
        "src/lrrt/experiments/extra/section.py": """
            from dataclasses import dataclass
            from lrrt.core.checks import check_range

            @dataclass
            class Section:
                runs: int = 0

                @property
                def enabled(self):
                    return self.runs > 0

            def check(config):
                check_range("extra.runs", config.extra.runs, 0, 10)
            """,
        "src/lrrt/experiments/extra/design.py": """
            from typing import NamedTuple

            class Design(NamedTuple):
                runs: int
                specs: list

            def design(config, dataset):
                return Design(config.extra.runs, [])
            """,
        "src/lrrt/experiments/extra/tables.py": """
            import pandas as pd

            SCHEMAS = {"extra.parquet": {"run": "int64"}}

            def tables(design, store):
                return {"extra.parquet": pd.DataFrame({"run": range(design.runs)})}
            """,
    },
}

#: By kind, code that lists, checks and uses it; it prints "found" at its end.
USES = {
    "rule": """
        from lrrt import cli
        from lrrt.finder import rules
        cli.main(["rules"])
        assert "halfway" in rules.names()
        assert lrrt.Curve(lr=[0.1, 0.2, 0.4], loss=[3, 2, 1]).suggest("halfway").lr == 0.2
        """,
    "network": """
        from lrrt.core import networks, weights
        config = composed("model=linear", "model.copies=3")
        assert config.model.copies == 3
        nodes = networks.module_of(config.model).nodes(config.model, (8, 8, 1), 10)
        assert weights.draw(nodes, "he_uniform", "zero", 0)["dense.kernel"].size == 640
        """,
    "data": """
        from lrrt.datasets import load
        config = composed("data=stripes", "data.train_images=320", "sweep.batch_size=32")
        assert load(config.data).train_images.shape == (320, 8, 8, 1)
        """,
    "optimizer": """
        from lrrt.datasets import load
        from lrrt.runs.execute import execute
        from lrrt.runs.specify import specify
        config = composed(
            "+protocol@protocols.signs=signs", "study.protocols=[signs]", "study.backends=[torch]",
            "model=mlp", "data=digits8x8", "data.train_images=400",
            "data.test_images=50", "divergence.cases=[]", "attribution.runs=0",
            "variance.weights=0", "instrument.runs=0", "mechanism.runs=0", "sweep.steps=10",
        )
        dataset, protocol = load(config.data), config.protocols["signs"]
        spec = specify(
            config, dataset.digest, "range_test", "torch", protocol,
            seed=0, batch_size=8, steps=10, precision="float32", devices={},
        )
        assert len(execute(spec, dataset).arrays["loss"]) == 10
        assert '"optimizer":"signs"' in spec.to_json()
        """,
    "policy": """
        config = composed("divergence.policies=[halved]")
        assert config.divergence.policies == ["halved"]
        """,
    "figure": """
        from lrrt.report import figures
        assert figures._modules()[-1].__name__.endswith(".extra")
        """,
    "claim": """
        from lrrt.claims import judges, rule
        assert judges()[-1].claim == (99, "One more.", "extra") and rule(judges()[-1])
        """,
    "experiment": """
        import numpy as np, pandas as pd
        from lrrt.datasets import Dataset, save
        from lrrt.report.study import experiments
        from lrrt.runs import paths
        from lrrt.stages import experiment
        config = composed("extra.runs=3", write=True)
        labels = np.arange(20) % 10
        images, scale = np.zeros((20, 8, 8, 1), np.uint8), np.ones(1)
        names = tuple("0123456789")
        dataset = Dataset(images, labels, images, labels, scale, scale, names, "Nothing.")
        save(dataset, paths.dataset_path(config))
        experiment.main(["extra"])
        assert len(pd.read_parquet(paths.folder(config) / "extra.parquet")) == 3
        listed = {name: (enabled, [*schemas]) for name, enabled, schemas in experiments(config)}
        assert listed["extra"] == (True, ["extra.parquet"])
        try:
            composed("extra.runs=11")
        except lrrt.errors.InputError as error:
            assert str(error) == "extra.runs: expected a number from 0 to 10, got 11"
        """,
}
PREAMBLE = """
import lrrt, lrrt.errors
from pathlib import Path

def composed(*overrides, write=False):
    import yaml
    from lrrt.compose import composed_yaml
    from lrrt.config import from_mapping
    text = composed_yaml(Path("conf"), list(overrides))
    if write:
        Path("params.yaml").write_text(text)
    return from_mapping(yaml.safe_load(text))
"""


@pytest.mark.slow(2)
@pytest.mark.parametrize("kind", FILES)
def test_one_more_is_found_and_used(kind, tmp_path):
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("src", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for path, content in FILES[kind].items():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        assert not file.exists()
        file.write_text(textwrap.dedent(content).lstrip())
    code = PREAMBLE + textwrap.dedent(USES[kind]) + "\nprint('found')\n"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src"), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.splitlines()[-1] == "found"
