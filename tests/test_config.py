"""Composition, types and validation of the configuration."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

import lrrt.runs.launchers
from lrrt.compose import composed_yaml
from lrrt.config import from_mapping, load
from lrrt.errors import InputError

ROOT = Path(__file__).parents[1]
PARAMS = (ROOT / "params.yaml").read_text()


def compose(*overrides: str) -> dict:
    return yaml.safe_load(composed_yaml(ROOT / "conf", list(overrides)))


def command(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_params_yaml_is_the_composition_of_conf():
    assert PARAMS == composed_yaml(ROOT / "conf", [])


@pytest.mark.parametrize("study", ["quick", "resnet20", "blog"])
def test_each_study_composes_and_is_valid(study):
    assert from_mapping(compose(f"study={study}")).study.name == study


def test_blog_study_is_at_the_scale_of_the_post():
    config = from_mapping(compose("study=blog"))
    assert (config.model.depth, config.data.name, config.sweep.batch_size) == (56, "cifar10", 512)
    assert config.sweeps["weights"].runs == 20
    for folder in ("blog", "resnet20"):  # what the reports were made of
        assert load(ROOT / "reports" / folder / "params.yaml").study.name == folder


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("model.depth=2", ("model", "depth"), 2),
        ("data=cifar10", ("data", "name"), "cifar10"),
        ("sweep.runs=7", ("sweeps", "weights", "runs"), 7),
        ("sweep.batch_size=32", ("sweeps", "order", "batch_sizes"), [32]),
        ("protocols.blog_fastai.gradient_clip=1", ("protocols", "blog_fastai", "gradient_clip"), 1),
        ("study.backends=[torch]", ("study", "backends"), ["torch"]),
        ("sweep.devices.torch=cuda", ("sweeps", "weights", "devices", "torch"), "cuda"),
        ("sweep.precision=bfloat16", ("sweeps", "order", "precision"), "bfloat16"),
    ],
)
def test_overrides_reach_what_they_name(override, key, value):
    extra = (
        ["divergence.cases=[{case: torch-blog_fastai, grids: 1}]"] if "backends" in override else []
    )
    found = compose(override, *extra)
    for part in key:
        found = found[part]
    assert found == value


def test_a_sweep_can_be_one_backends():
    cases = from_mapping(compose("sweeps.order.backends=[torch]")).cases
    assert {case[0] for case in cases if case[2] == "order"} == {"torch"}
    assert {case[0] for case in cases if case[2] == "weights"} == {"keras", "torch"}
    with pytest.raises(InputError, match="sweeps.order.backends"):
        compose("sweeps.order.backends=[torch]", "study.backends=[keras]", "divergence.cases=[]")
    with pytest.raises(InputError, match="sweeps.weights.backends"):
        compose("sweeps.weights.backends=[torch]")  # of which Keras's pair is to be chosen


def test_a_study_trains_pairs_of_its_own_cases_only():
    def counts(*overrides: str) -> dict[str, tuple[int, ...]]:
        cases = compose(*overrides)["divergence"]["cases"]
        return {asked.pop("case"): tuple(asked.values()) for asked in cases}

    blog = {"keras-blog_keras": (2, 1, 0), "torch-blog_keras": (4, 4, 0)}
    assert counts("study=blog") == blog | {"torch-blog_fastai": (2, 2, 0)}
    assert counts("study=blog", "divergence.cases.2.pairs=5")["torch-blog_fastai"] == (5, 2, 0)
    assert list(counts("study=resnet20")) == [
        "keras-blog_keras",
        "torch-blog_fastai",
        "torch-blog_keras",
    ]
    one = counts("study=blog", "divergence.cases=[{case: torch-blog_keras}]")
    assert one == {"torch-blog_keras": (1, 1, 0)}
    with pytest.raises(InputError, match="divergence.cases.0..case"):
        compose("divergence.cases=[{pairs: 2}]")


# What Hydra itself refuses: its grammar, groups, keys and types.
BAD_FOR_HYDRA = [
    ("modl.depth=8", "modl"),
    ("model.depth=deep", "deep"),
    ("data=imagenet", "cifar10"),
    ("study=nature", "blog"),
    ("sweep.runs=2.5", "2.5"),
    ("launcher=kubernetes", "local"),
    ("sweep.runs=[", "sweep.runs"),
]
# What composes, or would; the validation refuses it.
BAD = [
    ("model.depth=10", "model.depth"),
    ("model.width=0", "model.width"),
    ("model.name=vgg", "resnet"),
    ("data.name=imagenet", "digits"),
    ("data.train_images=0", "data.train_images"),
    ("study.name=../up", "study.name"),
    ("study.backends=[jax]", "keras, torch"),
    ("study.backends=[]", "study.backends"),
    ("study.sweeps=[weights,weights]", "none twice"),
    ("study.sweeps=[wieghts]", "weights"),
    ("study.protocols=[adam]", "blog_fastai"),
    ("sweep.runs=0", "sweep.runs"),
    ("sweep.runs=-3", "sweep.runs"),
    ("sweep.batch_size=0", "sweep.batch_size"),
    ("sweep.batch_size=1000000", "sweep.batch_size"),
    ("sweep.steps=9", "sweep.steps"),
    ("sweeps.weights.validation=full", "running"),
    ("sweeps.weights.precision=float8", "bfloat16"),
    ("sweeps.weights.batch_sizes=[128]", "[16], as conf/sweep/weights.yaml and the section sweep"),
    ("sweeps.weights.batch_sizes=[64,128]", "sweeps.weights.batch_sizes"),
    ("sweeps.weights.steps=50", "90, as conf/sweep/weights.yaml"),
    ("sweeps.weights.seed=100", "sweeps.weights.seed"),
    ("sweeps.order.new_weights=true", "False, as conf/sweep/order.yaml"),
    ("sweeps.validation.validation=none", "running, as conf/sweep/validation.yaml"),
    ("sweeps.batch_size.steps=null", "the same steps at all batch sizes"),
    ("sweeps.batch_size.batch_sizes=[]", "batch_sizes"),
    ("sweeps.batch_size.whole_epoch=true", "whole_epoch"),
    ("protocols.blog_keras.ramp.start=0", "ramp.start"),
    ("protocols.blog_keras.ramp.start=-1", "ramp.start"),
    ("protocols.blog_keras.ramp.end=1e-9", "ramp.end"),
    ("protocols.blog_keras.ramp.end=.inf", "ramp.end"),
    ("protocols.blog_keras.ramp.shape=cubic", "exponential"),
    ("protocols.blog_keras.ramp.steps=5", "ramp.steps"),
    ("protocols.blog_keras.rule=oracle", "blog_keras"),
    ("protocols.blog_keras.weights=zeros", "he_uniform"),
    ("protocols.blog_keras.padding=valid", "symmetric"),
    ("protocols.blog_keras.augmentation=mixup", "crop"),
    ("protocols.blog_keras.gradient_clip=0", "gradient_clip"),
    ("protocols.blog_keras.gradient_clip=.nan", "gradient_clip"),
    ("protocols.blog_keras.momentum=1.5", "momentum"),
    ("protocols.blog_keras.momentum_form=nesterov", "lr_inside"),
    ("protocols.blog_keras.batch_norm_epsilon=0", "batch_norm_epsilon"),
    ("protocols.blog_keras.weight_decay.kind=l1", "decoupled"),
    ("protocols.blog_keras.weight_decay.value=-1", "weight_decay.value"),
    ("divergence.epochs=0", "divergence.epochs"),
    ("divergence.cases=[{case: torch}]", "<backend>-<protocol>"),
    ("divergence.cases=[{pairs: 2}]", "divergence.cases[0]"),
    ("divergence.reference_lr=0", "divergence.reference_lr"),
    ("report.loss_quantiles=[0.9,0.1]", "loss_quantiles"),
    ("report.dpi=1", "report.dpi"),
    ("sweep.devices={jax: cuda}", "keras, torch"),
    ("sweeps.order.devices={torch: tpu}", "sweeps.order.devices.torch"),
    ("divergence.devices={torch: tpu}", "cpu, cuda"),
    ("sweeps.order.limits={jax-blog_keras: 3}", "keras, torch"),
    ("sweeps.order.limits={keras: 3}", "<backend>-<protocol>"),
    ("sweeps.order.limits={keras-blog_keras: 0}", "sweeps.order.limits.keras-blog_keras"),
    ("sweeps.weights.limits={keras-blog_keras: 1}", "sweeps.weights.limits.keras-blog_keras"),
    ("sweeps.order.backends=[jax]", "keras, torch"),
    ("sweeps.order.backends=[]", "sweeps.order.backends"),
    ("divergence.precision=float8", "tfloat32"),
    ("launcher.workers=0", "launcher.workers"),
    ("launcher.threads=0", "launcher.threads"),
]


@pytest.mark.parametrize(("override", "named"), BAD_FOR_HYDRA)
def test_bad_override_is_one_line_naming_it(override, named):
    with pytest.raises(InputError) as caught:
        composed_yaml(ROOT / "conf", [override])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def base():
    return OmegaConf.create(compose())


@pytest.mark.parametrize(("override", "named"), BAD)
def test_bad_value_is_one_line_naming_it(override, named, base):
    key, value = override.split("=")
    values = copy.deepcopy(base)
    OmegaConf.update(values, key, yaml.safe_load(value))
    with pytest.raises(InputError) as caught:
        from_mapping(values)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_launcher_checks_its_options_if_it_can(tmp_path, monkeypatch):
    paths = [*lrrt.runs.launchers.__path__, str(tmp_path)]
    monkeypatch.setattr(lrrt.runs.launchers, "__path__", paths)
    run = "def run(specs, dataset_path, store, launcher): ...\n"
    (tmp_path / "bare.py").write_text(run)
    (tmp_path / "strict.py").write_text(f"{run}def validate(launcher): raise OSError('seen')\n")
    assert compose("launcher.name=bare", "+launcher.options.x=1")["launcher"]["options"] == {"x": 1}
    with pytest.raises(OSError, match="seen"):
        compose("launcher.name=strict", "+launcher.options.x=1")


def test_bad_compose_exits_2_and_leaves_params_alone(tmp_path):
    os.symlink(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "params.yaml").write_text("before")
    done = command("-m", "lrrt", "compose", "model.depth=10", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert (tmp_path / "params.yaml").read_text() == "before"


def test_compose_writes_a_file_that_loads(tmp_path):
    os.symlink(ROOT / "conf", tmp_path / "conf")
    done = command("-m", "lrrt", "compose", "sweep.runs=2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "params.yaml").sweeps["weights"].runs == 2


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (PARAMS.replace("name: quick", "nme: quick"), "nme"),
        (re.sub("depth: .*", "depth: [1]", PARAMS, count=1), "depth"),
        ("study: [", "YAML"),
        ("\x00", "YAML"),
        ("just words", "expected sections"),
        ("- a list", "params.yaml"),
    ],
)
def test_bad_params_file_is_one_line(tmp_path, text, named):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load(tmp_path / "params.yaml")
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_missing_params_file_says_what_writes_it(tmp_path):
    with pytest.raises(InputError, match="lrrt compose"):
        load(tmp_path / "params.yaml")


def test_nothing_heavy_is_imported_to_compose_or_list():
    code = (
        "import sys, lrrt.cli, lrrt.compose, lrrt.config, lrrt.finder.command;"
        "print([m for m in ('torch', 'keras', 'tensorflow', 'matplotlib', 'pandas', 'scipy')"
        " if m in sys.modules])"
    )
    assert command("-c", code).stdout.strip() == "[]"


INTERRUPTED = """
import sys
class Interrupt:
    def find_spec(name, *_):
        if name == "lrrt.finder.command":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt)
from lrrt.cli import main
main(["rules"])
"""


def test_ctrl_c_during_the_imports_is_one_line():
    done = command("-c", INTERRUPTED)
    assert done.returncode == 130
    assert done.stderr.startswith("stopped by SIGINT") and done.stderr.count("\n") == 1


def test_what_is_listed_as_default_is_what_the_default_study_takes():
    from lrrt.compose import options

    taken = {}
    for option in options(Path(__file__).parents[1] / "conf"):
        assert option.about, option
        if option.default:
            taken.setdefault(option.group, set()).add(option.name)
    assert taken["study"] == {"quick"} and taken["model"] == {"cnn4"}
    assert taken["data"] == {"digits8x8"}
    assert taken["protocol"] == {"blog_keras", "blog_fastai", "sgd"}
