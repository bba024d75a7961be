"""Divergence: pairs of runs, planned trainings, outcomes, policies, the stage."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import write_params

from lrrt.analysis.suggestions import SUGGESTION_TYPES
from lrrt.config import Config, Sweep, from_mapping
from lrrt.core.protocol import Protocol
from lrrt.datasets import Dataset, save
from lrrt.errors import InputError
from lrrt.experiments.transfer.design import (
    choose_pairs,
    gap_decades,
    pairs_of,
    plan,
    training_queue,
    training_specs,
)
from lrrt.experiments.transfer.section import Pairs, Section
from lrrt.experiments.transfer.tables import (
    TRAINING_KEYS,
    TRAINING_TYPES,
    outcome,
    outcome_table,
    training_table,
)
from lrrt.runs.policies import constant, one_cycle, triangular, warm_restarts
from lrrt.runs.spec import RunSpec
from lrrt.runs.store import Result, Store, Timed


def suggestions(*ranges: tuple[float, float], **labels) -> pd.DataFrame:
    """One run per range, seeds from 0 on."""
    rows = [
        {
            "run": f"run{seed}",
            "backend": "torch",
            "protocol": "p",
            "sweep": "weights",
            "weights_seed": seed,
            "order_seed": 10 + seed,
            "batch_size": 64,
            "rule": "blog_fastai",
            "min_lr": low,
            "max_lr": high,
            "fallback": False,
            "reason": "",
            "stop_step": None,
        }
        | labels
        for seed, (low, high) in enumerate(ranges)
    ]
    return pd.DataFrame(rows).astype(SUGGESTION_TYPES)


# --- pairs


def test_gap_is_the_distance_or_minus_the_overlap():
    assert gap_decades((1e-3, 1e-2), (1e-1, 1.0)) == pytest.approx(1)
    assert gap_decades((1e-1, 1.0), (1e-3, 1e-2)) == pytest.approx(1)
    assert gap_decades((1e-3, 1e-1), (1e-2, 1.0)) == pytest.approx(-1)
    assert gap_decades((1e-3, 10.0), (1e-2, 1e-1)) == pytest.approx(-1)  # one within the other
    assert gap_decades((1e-3, 1e-2), (1e-2, 1.0)) == 0


def test_pair_of_four_ranges():
    # Gaps: 0-1 overlap 1, 0-2 one decade, 0-3 overlap 1, 1-2 touch (0), 1-3 one decade, 2-3 two.
    rows = suggestions((1e-4, 1e-2), (1e-3, 1e-1), (1e-1, 1.0), (1e-5, 1e-3))
    found = choose_pairs(rows.sample(frac=1, random_state=0))
    assert (found["A"]["run"], found["B"]["run"]) == ("run2", "run3")
    assert found["A"] == {
        "run": "run2",
        "weights_seed": 2,
        "order_seed": 12,
        "batch_size": 64,
        "min_lr": 1e-1,
        "max_lr": 1.0,
    }
    assert found["gap_decades"] == pytest.approx(2) and found["disjoint"] is True
    assert (found["n"], found["abstained"], found["pairs"]) == (4, 0, 6)
    assert found["disjoint_pairs"] == 2 and found["further"] == []
    assert json.loads(json.dumps(found)) == found


def test_further_pairs_use_no_run_twice():
    rows = suggestions((1e-4, 1e-2), (1e-3, 1e-1), (1e-1, 1.0), (1e-5, 1e-3))
    found = choose_pairs(rows, count=6)
    (second,) = found["further"]  # of runs 0 and 1, which overlap by a decade
    assert (second["A"]["run"], second["B"]["run"]) == ("run1", "run0")
    assert second["gap_decades"] == pytest.approx(-1) and second["disjoint"] is False
    assert list(pairs_of("torch-p", found)) == ["torch-p", "torch-p-2"]


def test_without_disjoint_ranges_the_least_overlap_and_it_says_so():
    found = choose_pairs(suggestions((1e-3, 1.0), (1e-2, 10.0), (5e-4, 2e-2)))
    assert (found["A"]["run"], found["B"]["run"]) == ("run1", "run2")
    assert found["gap_decades"] == pytest.approx(-math.log10(2)) and found["disjoint"] is False
    assert found["disjoint_pairs"] == 0


def test_abstentions_take_no_part_and_one_range_is_no_pair():
    nan = math.nan
    rows = suggestions((nan, nan), (1e-3, 1e-2), (nan, 1.0), (4.0, 0.1))  # the last no range
    found = choose_pairs(rows)
    assert (found["n"], found["abstained"], found["pairs"]) == (1, 3, 0)
    assert found["A"] is None and found["disjoint"] is False and pairs_of("torch-p", found) == {}
    assert choose_pairs(rows[:0])["n"] == 0


def test_a_is_the_higher_of_equal_seeds_order():
    found = choose_pairs(suggestions((1e-3, 1e-2), (1e-3, 1e-2)))
    assert (found["A"]["run"], found["B"]["run"]) == ("run0", "run1")


# --- policies


def test_policies_by_hand():
    assert constant.lrs(0.5, 3).tolist() == [0.5] * 3
    cycle = triangular.lrs(1.0, 12)  # three cycles of four steps
    assert cycle.tolist() == pytest.approx([0.25, 0.625, 1.0, 0.625] * 3)
    restarts = warm_restarts.lrs(2.0, 14)  # cycles of 2, 4 and 8 steps
    assert restarts[[0, 2, 6]].tolist() == [2.0] * 3
    assert restarts[:4].tolist() == pytest.approx([2, 1, 2, 1 + math.sqrt(0.5)])
    assert (np.diff(restarts[6:]) < 0).all()
    one = one_cycle.lrs(1.0, 20)  # up in steps 0 to 5, down in steps 5 to 19
    assert one[[0, 5, 12, 19]].tolist() == pytest.approx([0.04, 1, 0.5, 4e-6], rel=1e-5)
    assert (np.diff(one[:6]) > 0).all() and (np.diff(one[5:]) < 0).all()


@pytest.mark.parametrize("policy", [constant, one_cycle, triangular, warm_restarts])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
def test_policies_never_exceed_their_lr(policy, steps):
    lrs = policy.lrs(0.3, steps)
    assert lrs.shape == (steps,) and lrs.dtype == np.float64
    assert np.isfinite(lrs).all() and (lrs >= 0).all() and (lrs <= 0.3 + 1e-15).all()


# --- outcomes


def epochs(
    train, *, evaluated=None, val=None, initial=3.0, peak=3.0, stopped=None, **labels
) -> pd.DataFrame:
    """A training table of one training, an epoch per value of ``train``."""
    rows = pd.DataFrame({"train_loss": train})
    rows["train_eval_loss"] = rows["train_loss"] if evaluated is None else evaluated
    rows["val_loss"] = rows["train_loss"] if val is None else val
    rows["epoch"] = range(1, len(rows) + 1)
    rows = rows.assign(
        training="t",
        pair="torch-p",
        backend="torch",
        protocol="p",
        weights_seed=0,
        order_seed=0,
        batch_size=64,
        weights="A",
        lr_of="A",
        lr_kind="max",
        weights_from="",
        policy="constant",
        lr=0.1,
        run="r",
        step_lr=0.1,
        train_accuracy=0.5,
        val_accuracy=0.5,
        initial_loss=initial,
        peak_loss=peak,
        stopped_at_step=stopped,
    ).assign(**labels)
    return rows[list(TRAINING_TYPES)].astype(TRAINING_TYPES)


NAN = math.nan
CHANCE = math.log(10)  # 2.303


@pytest.mark.parametrize(
    "found, rows, part",
    [
        ("trains", epochs([2.0, 1.5, 1.0]), "43% of a guess's 2.3"),
        ("diverged", epochs([2.0, NAN, NAN], stopped=57), "not finite at step 58"),
        ("diverged", epochs([NAN], initial=NAN, peak=NAN, stopped=0), "not finite at step 1"),
        ("diverged", epochs([2.9, 3.0]), "3, not below the initial 3"),
        ("diverged", epochs([20.0, 2.31], peak=400.0), "133 times the initial 3"),
        ("trains", epochs([20.0, 1.9], peak=400.0), ""),  # it blew up and recovered
        ("stalls", epochs([2.9, 2.8], peak=4.4), "122% of a guess"),  # slow, but it never blew up
        ("stalls", epochs([2.31, 2.31]), ""),
        ("stalls", epochs([2.2, 0.9001 * CHANCE]), "90% of a guess"),
        ("trains", epochs([2.2, 0.8999 * CHANCE]), ""),
        (
            "overfits",
            epochs([1.5, 1.0, 0.5], val=[1.6, 1.5, 1.66]),
            "from 1.5 after epoch 2 to 1.66",
        ),
        ("trains", epochs([1.5, 1.0, 0.5], val=[1.6, 1.5, 1.64]), ""),  # by less than a tenth
        ("trains", epochs([1.5, 1.0, 0.9], evaluated=[1.5, 1.0, 1.2], val=[1.6, 1.5, 1.9]), ""),
        ("lags", epochs([1.5, 1.0], evaluated=[3.5, CHANCE]), "2.3 on training images"),
        ("trains", epochs([1.5, 1.0], evaluated=[3.5, 2.3]), ""),
        ("stalls", epochs([2.31, 2.31], evaluated=[3.5, 3.5]), ""),
        ("diverged", epochs([1.5, 1.0], val=[1.6, math.inf]), "evaluated after the last step"),
        ("diverged", epochs([1.5, 1.0], evaluated=[1.5, NAN]), "evaluated after the last step"),
        ("trains", epochs([1.5, 1.0], val=[math.inf, 1.2]), ""),  # broken on the way, and recovered
    ],
)
def test_outcome(found, rows, part):
    outcome_found, reason = outcome(rows, classes=10)
    assert outcome_found == found and part in reason


def test_outcome_table():
    table = pd.concat(
        [
            epochs([1.5, 1.0, 0.5], val=[1.6, 1.5, 1.66], training="one"),
            epochs([2.0, NAN], stopped=57, training="two", val_accuracy=[0.4, NAN]),
            epochs([NAN], initial=NAN, peak=NAN, stopped=0, training="three", val_accuracy=NAN),
        ]
    )
    found = outcome_table(table.iloc[::-1], 10).set_index("training")
    assert found["outcome"].to_dict() == {"one": "overfits", "two": "diverged", "three": "diverged"}
    one, two = found.loc["one"], found.loc["two"]
    assert (one["final_val_loss"], one["best_val_loss"], one["best_epoch"]) == (1.66, 1.5, 2)
    assert (two["stopped_at_step"], two["best_epoch"], two["best_val_accuracy"]) == (57, 1, 0.4)
    assert two["epochs"] == 2
    assert math.isnan(found.loc["two", "final_train_loss"])
    # After one epoch, which all have, nothing has gone wrong with the first two.
    assert found["compared_epochs"].tolist() == [1, 1, 1]
    assert found["compared_outcome"].to_dict() == {
        "one": "trains",
        "two": "trains",
        "three": "diverged",
    }
    assert two["compared_val_accuracy"] == 0.4
    assert pd.isna(found.loc["three", "best_epoch"])
    empty = outcome_table(table[:0], 10)
    assert list(empty.columns)[: len(TRAINING_KEYS)] == list(TRAINING_KEYS) and len(empty) == 0
    assert empty.dtypes.equals(outcome_table(table, 10).dtypes)


# --- plan


def plan_config(**divergence) -> Config:
    config = Config(
        protocols={"p": Protocol()},
        sweeps={"weights": Sweep()},
        divergence=Section(epochs=2, transfer_epochs=5, precision="bfloat16", **divergence),
    )
    config.data.train_images = 640
    return config


PAIR = {
    "A": {"weights_seed": 3, "order_seed": 4, "batch_size": 64, "min_lr": 0.04, "max_lr": 1.0},
    "B": {"weights_seed": 5, "order_seed": 6, "batch_size": 64, "min_lr": 1e-4, "max_lr": 0.01},
}


def cells(trainings) -> list[tuple]:
    return [(t.weights, t.lr_of, t.lr_kind, t.spec.lr, t.spec.epochs) for t in trainings]


def test_training_specs_of_the_first_pair():
    found = training_specs(plan_config(), "d", "torch", "p", "torch-p", PAIR)
    assert cells(found)[:2] == [("B", "A", "max", 1.0, 5), ("B", "B", "max", 0.01, 2)]
    own = [t for t in found if t.spec.weights_from is None]
    assert len(own) == 2 * 2 * 3 + 2 and len(set(cells(own))) == 14
    lrs = {(t.lr_of, t.lr_kind): t.spec.lr for t in own}
    assert lrs == pytest.approx(
        {
            ("A", "min"): 0.04,
            ("A", "middle"): 0.2,
            ("A", "max"): 1.0,
            ("B", "min"): 1e-4,
            ("B", "middle"): 1e-3,
            ("B", "max"): 0.01,
            ("reference", "reference"): 0.1,
        }
    )
    (across,) = [t for t in found if t.spec.weights_from is not None]
    assert across.spec.weights_from == "keras"
    assert cells([across]) == [("A", "A", "max", 1.0, 2)]
    for training in found:
        run, spec = PAIR[training.weights], training.spec
        assert (spec.weights_seed, spec.order_seed) == (run["weights_seed"], run["order_seed"])
        assert (spec.kind, spec.steps, spec.precision) == ("training", 10, "bfloat16")


def test_training_specs_with_policies_and_of_further_pairs():
    config = plan_config(policies=["triangular"], steps_per_epoch=7)
    found = training_specs(config, "d", "torch", "p", "torch-p", PAIR)
    by_policy = [t for t in found if t.spec.policy != "constant"]
    assert [(t.weights, t.lr_of, t.lr_kind) for t in by_policy] == [
        ("A", "A", "max"),
        ("A", "B", "max"),
        ("B", "A", "max"),
        ("B", "B", "max"),
    ]
    assert {t.spec.steps for t in found} == {7}
    further, swapped = (
        training_specs(config, "d", "torch", "p", "torch-p-2", PAIR, swap=swap, grid=False)
        for swap in (False, True)
    )
    assert cells(further) == [("B", "A", "max", 1.0, 5), ("B", "B", "max", 0.01, 2)]
    assert cells(swapped) == [
        *cells(further),
        ("A", "A", "max", 1.0, 2),
        ("A", "B", "max", 0.01, 2),
    ]
    assert {t.pair for t in further} == {"torch-p-2"}


def result_of(spec: RunSpec) -> Result:
    """As if trained: the larger the LR, the worse; above 0.5 it stops in the second epoch."""
    losses = np.linspace(2, 1 + spec.lr, spec.epochs)
    stopped = None
    if spec.lr > 0.5 and spec.epochs > 1:
        losses[1:], stopped = np.nan, spec.steps
    measured = ("train_loss", "train_eval_loss", "train_accuracy", "val_loss", "val_accuracy")
    arrays = {"epoch": np.arange(1.0, spec.epochs + 1), "lr": np.full(spec.epochs, spec.lr)}
    record = {
        "versions": {"torch": "2"},
        "seconds": 1.5,
        "stopped_at_step": stopped,
        "initial_loss": 3.0,
        "peak_loss": 3.0,
    }
    return Result(arrays | dict.fromkeys(measured, losses), record)


def test_training_table(tmp_path):
    store = Store(tmp_path)
    pair = {"A": PAIR["A"] | {"min_lr": 1.0}, "B": PAIR["B"]}  # so that min and max coincide
    found = training_specs(plan_config(), "d", "torch", "p", "torch-p", pair)
    with pytest.raises(InputError, match=found[0].spec.key[:12]):
        training_table(found, store)
    for training in found:
        store.put(training.spec, result_of(training.spec))
    table, empty = training_table(found, store), training_table([], store)
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == TRAINING_TYPES
    assert empty.dtypes.equals(table.dtypes)
    assert table["training"].nunique() == len(found) == 15
    sizes = table.groupby("training").size()
    assert sizes["torch-p: weights B at A's max LR"] == 5
    assert sizes["torch-p: weights A at A's max LR, from keras"] == 2
    shared = table[
        table["training"].isin(
            ["torch-p: weights A at A's min LR", "torch-p: weights A at A's max LR"]
        )
    ]
    assert shared["run"].nunique() == 1 and len(shared) == 4
    assert table.attrs == {
        "data_digests": ["d"],
        "versions": [{"torch": "2"}],
        "places": ["cpu, bfloat16"],
    }
    assert table["stopped_at_step"].dropna().unique().tolist() == [10]


def test_a_timed_store_notes_the_seconds_of_what_is_read(tmp_path):
    store, spec = (
        Store(tmp_path),
        training_specs(plan_config(), "d", "torch", "p", "torch-p", PAIR)[0].spec,
    )
    store.put(spec, result_of(spec))
    timed = Timed(tmp_path)
    assert timed.get(spec.key) and timed.get("0" * 40) is None
    assert timed.seconds == {spec.key[:12]: 1.5}


# --- the pairs that a study asks for, and their trainings


FOUR = suggestions((1e-4, 1e-2), (1e-3, 1e-1), (1e-1, 1.0), (1e-5, 1e-3))


def two_cases(*cases: Pairs) -> tuple[dict, list]:
    """What is planned where protocols p and q have the same four suggestions."""
    config = plan_config(cases=list(cases))
    config.protocols["q"] = Protocol()
    not_meant = [
        suggestions((1e-9, 1e-8), **labels)
        for labels in ({"rule": "blog_keras"}, {"sweep": "order"}, {"backend": "keras"})
    ]
    return plan(config, "d", pd.concat([FOUR, FOUR.assign(protocol="q"), *not_meant]))


@pytest.mark.parametrize(
    "swaps, grids, counts",
    [
        (0, 0, [2, 2]),
        (1, 0, [4, 2]),
        (0, 2, [15, 15]),
        (2, 1, [15, 4]),
    ],
)
def test_as_many_pairs_of_a_case_are_swapped_and_in_a_grid_as_asked(swaps, grids, counts):
    _, trainings = two_cases(Pairs("torch-p", 2, swaps, grids))
    assert list(Counter(training.pair for training in trainings).values()) == counts


def test_each_cases_first_pair_comes_before_any_second():
    pairs, trainings = two_cases(Pairs("torch-q", 2, grids=1), Pairs("torch-p", 1, 0))
    assert list(pairs) == ["torch-q", "torch-p"]
    assert [len(pairs[case]["further"]) for case in pairs] == [1, 0]
    assert Counter(t.pair for t in trainings) == {"torch-q": 15, "torch-p": 2, "torch-q-2": 2}
    assert list(dict.fromkeys(t.pair for t in trainings)) == ["torch-q", "torch-p", "torch-q-2"]
    assert {(t.pair, t.protocol) for t in trainings} == {
        ("torch-q", "q"),
        ("torch-p", "p"),
        ("torch-q-2", "q"),
    }
    for pair, seeds in (("torch-q", {2, 3}), ("torch-p", {3}), ("torch-q-2", {0})):
        assert {t.spec.weights_seed for t in trainings if t.pair == pair} == seeds


def test_what_matters_most_of_every_pair_is_trained_first():
    _, trainings = two_cases(Pairs("torch-q", 2, grids=1), Pairs("torch-p", 1, 0))
    specs = [training.spec for training in trainings]
    q, p, second = specs[:15], specs[15:17], specs[17:]
    expected = [q[0], p[0], second[0], q[1], p[1], second[1], *q[2:]]
    assert training_queue(trainings) == expected and training_queue([]) == []


# --- the stage


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study folder with params.yaml, data and suggestions; trainings come from ``result_of``."""
    from lrrt.runs.launchers import local

    monkeypatch.chdir(tmp_path)
    params = {
        "study": {"name": "t", "backends": ["torch"], "protocols": ["p"], "sweeps": ["weights"]},
        "data": {"train_images": 640, "test_images": 10},
        "protocols": {"p": {}},
        "sweep": {"batch_size": 64},
        "sweeps": {"weights": {"runs": 2, "batch_sizes": [64]}},
        "divergence": {"cases": [{"case": "torch-p", "pairs": 2, "grids": 1}], "epochs": 2},
    }
    write_params(from_mapping(params))
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), np.arange(20) % 10
    dataset = Dataset(
        images[:10],
        labels[:10],
        images[10:],
        labels[10:],
        np.zeros(3),
        np.ones(3),
        tuple("0123456789"),
        "random",
    )
    save(dataset, Path("data/t/dataset.safetensors"))
    other_rule = suggestions((1e-9, 1e-8), rule="blog_keras")
    other_sweep = suggestions((1e-9, 1e-8), sweep="order")
    pd.concat([FOUR, other_rule, other_sweep]).to_parquet("data/t/suggestions.parquet")
    launched = []

    def run(specs, dataset_path, store, launcher):
        missing = [spec for spec in specs if not store.has(spec.key)]
        launched.append(len(missing))
        for spec in missing:
            store.put(spec, result_of(spec))

    monkeypatch.setattr(local, "run", run)
    return launched


OUTPUTS = [Path("data/t") / n for n in ("trainings.parquet", "outcomes.parquet", "pairs.json")]


def test_stage(study):
    from lrrt.stages import experiment as stage

    stage.main(["transfer"])
    trainings, outcomes = (pd.read_parquet(path) for path in OUTPUTS[:2])
    pairs = json.loads(OUTPUTS[2].read_text())
    assert pairs["torch-p"]["A"]["run"] == "run2" and pairs["torch-p"]["B"]["run"] == "run3"
    assert len(pairs["torch-p"]["further"]) == 1 and pairs["torch-p"]["n"] == 4
    counts = outcomes.groupby("pair").size().to_dict()
    assert counts == {"torch-p": 14, "torch-p-2": 2}
    assert set(outcomes["training"]) == set(trainings["training"])
    transfer = outcomes.set_index("training").loc["torch-p: weights B at A's max LR"]
    assert (transfer["outcome"], transfer["weights_seed"], transfer["lr"]) == ("diverged", 3, 1.0)
    before = [path.read_bytes() for path in OUTPUTS]
    stage.main(["transfer"])
    assert [path.read_bytes() for path in OUTPUTS] == before and study[1] == 0


@pytest.mark.parametrize(
    "break_it, named",
    [
        (lambda: Path("data/t/dataset.safetensors").unlink(), "lrrt.stages.data"),
        (lambda: Path("data/t/suggestions.parquet").unlink(), "lrrt.stages.suggest"),
        (lambda: Path("data/t/suggestions.parquet").write_bytes(b"PAR1"), "a Parquet file"),
        (lambda: pd.DataFrame({"run": []}).to_parquet("data/t/suggestions.parquet"), "max_lr"),
    ],
)
def test_stage_refuses_in_one_line(study, break_it, named, capsys):
    from lrrt.stages import experiment as stage

    break_it()
    with pytest.raises(SystemExit) as caught:
        stage.main(["transfer"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and named in error
    assert not any(path.exists() for path in OUTPUTS) and study == []


def test_stage_without_two_suggestions_writes_empty_tables(study, capsys):
    from lrrt.stages import experiment as stage

    suggestions((1e-3, 1e-2)).to_parquet("data/t/suggestions.parquet")
    stage.main(["transfer"])
    assert [len(pd.read_parquet(path)) for path in OUTPUTS[:2]] == [0, 0]
    assert json.loads(OUTPUTS[2].read_text())["torch-p"]["A"] is None
    assert "torch-p: 0 of 2 pairs: 1 runs have a range" in capsys.readouterr().err
