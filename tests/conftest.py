"""How the tests share the cores, and the study made from formulas that reports' tests read."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same bits on any machine; a core a process
# The study's Keras backend refuses a TensorFlow that was imported without it, by another test, say.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"

import copy
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import joblib
import pytest
import synthetic_study
from frames import write_params

from lrrt.config import Config
from lrrt.report import study
from lrrt.runs.processes import die_with_parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The cores that this process may use, at most four: each takes 1.5 GB with two frameworks."""
    return min(4, joblib.cpu_count())


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose ``slow`` tests take longest come first, so that none runs alone at the end.

    Every test of a framework in a process of its own is slow.
    """
    seconds = Counter()
    for item in items:
        if "run" in item.fixturenames:
            item.add_marker(pytest.mark.slow(2))
        for mark in item.iter_markers("slow"):
            seconds[item.path] += mark.args[0]
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture(scope="session")
def run():
    """``run(backend, function, *arguments)``: the result of it in that framework's process."""
    options = {"mp_context": get_context("spawn"), "initializer": die_with_parent}
    pools = {name: ProcessPoolExecutor(1, **options) for name in ("torch", "keras")}
    yield (
        lambda backend, function, *arguments: (
            pools[backend].submit(function, backend, *arguments).result()
        )
    )
    for pool in pools.values():
        pool.shutdown()


@pytest.fixture(scope="session")
def report_config() -> Config:
    """All sweeps, two policies."""
    return synthetic_study.config(
        "study.sweeps=[weights,order,batch_size,validation,validation_batch]",
        "sweeps.order.crossed_runs=0",
        "sweeps.validation.crossed_runs=0",
        "sweeps.batch_size.crossed_runs=0",
        "divergence.policies=[one_cycle]",
        "report.dpi=50",
        "report.bootstrap_resamples=100",
        "attribution.factors=[gradient_clip,rule,weight_decay]",
        "attribution.orders=2",
        "attribution.confirmed=[gradient_clip,weight_decay]",
        "attribution.confirmed_runs=3",
        "variance.protocols=[blog_keras,blog_fastai]",
        "variance.augmentations=2",
    )


@pytest.fixture(scope="session")
def hostile_config(report_config) -> Config:
    """The same with a title and a protocol that no validation would let pass."""
    hostile = copy.deepcopy(report_config)
    hostile.report.title = synthetic_study.EVIL
    hostile.protocols[synthetic_study.EVIL_PROTOCOL] = copy.deepcopy(
        report_config.protocols["blog_fastai"]
    )
    hostile.study.protocols.append(synthetic_study.EVIL_PROTOCOL)
    return hostile


@pytest.fixture(scope="session")
def report_root(report_config, hostile_config, tmp_path_factory) -> Path:
    """A folder with the hostile study, whose params.yaml is sound."""
    root = tmp_path_factory.mktemp("study")
    synthetic_study.write(root, hostile_config)
    write_params(report_config, root)
    description = root / "data" / "synthetic" / "dataset.json"
    described = json.loads(description.read_text()) | {"description": synthetic_study.EVIL}
    description.write_text(json.dumps(described))
    return root


@pytest.fixture(scope="session")
def report_data(report_root, hostile_config) -> study.StudyData:
    return study.load(hostile_config, report_root)
