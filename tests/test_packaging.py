"""The package: what wheel and sdist hold, and that each extra works where nothing else is.

Asked for by ``LRRT_TEST_PACKAGING=1``: it takes minutes, gigabytes and a package index.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILT_AT_ROOT = {"build", "dist", "data", "reports", "models", "shared"}
UNSET = {"PYTHONPATH", "LRRT_REPOSITORY_URL"}

pytestmark = pytest.mark.skipif(
    os.environ.get("LRRT_TEST_PACKAGING") != "1",
    reason="LRRT_TEST_PACKAGING=1 asks for it: minutes, gigabytes and a package index",
)


def run(*command, cwd, **environment):
    """Run it outside the checkout and give what it prints."""
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k not in UNSET} | environment,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return ran.stdout


def environment(folder: Path, *requirements: str) -> Path:
    """A clean environment with ``requirements``, of the pinned versions; its ``bin``."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--constraint", ROOT / "constraints.txt", *requirements, cwd=folder.parent)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """Wheel and sdist by suffix; ``python -m build`` makes the first from the second."""
    folder = tmp_path_factory.mktemp("built")

    def left_out(place, names):
        at_root = Path(place) == ROOT
        return [
            name
            for name in names
            if name.startswith(".")
            or name == "__pycache__"
            or name.endswith(".egg-info")
            or (at_root and name in BUILT_AT_ROOT)
        ]

    shutil.copytree(ROOT, folder / "source", ignore=left_out)
    tools = environment(folder / "tools", "build")
    run(tools / "python", "-m", "build", "--outdir", folder / "dist", "source", cwd=folder)
    wheel, sdist = sorted((folder / "dist").iterdir(), key=lambda path: path.suffix, reverse=True)
    return {"wheel": wheel, "sdist": sdist}


def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (about,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
        metadata = Parser().parsestr(wheel.read(about).decode())
        (entry,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "lrrt = lrrt.cli:main" in wheel.read(entry).decode()
        assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    kept = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "lrrt").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names == kept
    assert {"lrrt/py.typed", "lrrt/finder/audit.html.j2", "lrrt/report/lrrt.mplstyle"} <= names
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    (post,) = metadata.get_all("Project-URL")  # LRRT_REPOSITORY_URL is not set
    assert post.startswith("Blog post, https://")
    always = [text for text in metadata.get_all("Requires-Dist") if "extra ==" not in text]
    assert not any(text.startswith(("torch", "keras", "tensorflow")) for text in always)


def test_the_sdist_holds_the_project(built):
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "conf/config.yaml",
        "constraints.txt",
        "docs/conf.py",
        "dvc.yaml",
        "params.yaml",
        "setup.py",
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "notebooks/tutorial.py",
        "src/lrrt/py.typed",
        "tests/test_packaging.py",
        "hydra_plugins/lrrt_schema.py",
    } <= names
    assert not any(name.endswith(".pyc") or name.startswith((".venv", "data/")) for name in names)


LIBRARY = """
    from pathlib import Path
    import lrrt
    Path("losses.csv").write_text("lr,loss\\n" + "".join(
        f"{1e-5 * 1.2 ** i},{2 - i / 60 if i < 50 else i - 48}\\n" for i in range(60)
    ))
    assert lrrt.load("losses.csv").suggest("fastai1").lr
"""
TORCH = """
    import torch, lrrt
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(64, 3)
    before = model.weight.clone()
    curve = lrrt.range_test(
        model, torch.nn.CrossEntropyLoss(), (x.numpy(), x.argmax(1).numpy() % 2), optimizer,
        batch_size=8, steps=40,
    )
    assert len(curve) > 20 and curve.loss[0] > 0 and torch.equal(model.weight, before)
"""
KERAS = """
    import keras, numpy as np, lrrt
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    before = model.get_weights()
    data = (x, x.argmax(1) % 2)
    curve = lrrt.range_test(model, data=data, batch_size=8, steps=40, validation=data)
    assert len(curve) > 20 and (curve.val_accuracy >= 0).all()
    assert all(map(np.array_equal, before, model.get_weights()))
"""
REPORT = """
    curve.plot().figure.savefig("curve.png")
    def make_model():
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.SGD(model.parameters(), lr=0.1), torch.nn.CrossEntropyLoss()
    audit = lrrt.audit(
        make_model, lambda: {"data": (x.numpy(), x.argmax(1).numpy() % 2), "batch_size": 8}, runs=2
    )
    assert "<svg" in audit.report("lr.html").read_text()
"""
CLUSTER = """
    import ray, submitit
    import lrrt.runs.launchers.ray, lrrt.runs.launchers.submitit
"""
OTHERS = {"torch", "keras", "tensorflow", "matplotlib", "pandas", "pyarrow", "dvc", "hydra", "ray"}


@pytest.mark.parametrize(
    ("extras", "code", "brings"),
    [
        ("", LIBRARY, set()),
        ("torch", TORCH, {"torch"}),
        ("keras", KERAS, {"keras", "tensorflow"}),
        ("torch,report", TORCH + REPORT, {"torch", "matplotlib"}),
        ("study", KERAS + TORCH + REPORT, OTHERS - {"ray"}),
        ("cluster", CLUSTER, OTHERS),
    ],
    ids=["none", "torch", "keras", "report", "study", "cluster"],
)
def test_an_extra_works_where_nothing_else_is(built, tmp_path, extras, code, brings):
    place = tmp_path / "environment"
    try:
        binaries = environment(place, f"{built['wheel']}[{extras}]" if extras else built["wheel"])
        found = f"""
            from importlib.util import find_spec
            print(sorted(name for name in {OTHERS} if find_spec(name)))
        """
        python = binaries / "python"
        assert run(python, "-c", textwrap.dedent(found), cwd=tmp_path).strip() == str(
            sorted(brings)
        )
        run(python, "-m", "pip", "check", cwd=tmp_path)
        quiet = {"MPLBACKEND": "agg", "CUDA_VISIBLE_DEVICES": ""}
        run(python, "-c", textwrap.dedent(code), cwd=tmp_path, **quiet)
        assert "fastai_valley" in run(binaries / "lrrt", "rules", cwd=tmp_path)
        if extras == "study":
            assert "blog_keras" in run(binaries / "lrrt", "compose", "--show", cwd=ROOT)
    finally:
        shutil.rmtree(place, ignore_errors=True)
