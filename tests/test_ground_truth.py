"""The external layer: the public problem as it is described, and the public table's check."""

import numpy as np
import pandas as pd
import pytest
from ground_truth import constants, public, score
from ground_truth.range_tests import RESULTS

from lrrt.core import edge
from lrrt.errors import InputError


@pytest.fixture
def table(tmp_path):
    """A table of the public one's form: 24 cases whose best rate is 0.1, nine more seeds there."""
    rates = np.round(10 ** np.arange(-5, 2.01, 0.2), 9)
    rows = []
    for number in range(24):
        for seed, lr in [(42, lr) for lr in rates] + [(43 + i, 0.1) for i in range(9)]:
            away = abs(np.log10(lr) + 1)
            row = dict.fromkeys(public.COLUMNS, 1.0)
            row |= {
                "problem": f"p{number // 3}",
                "optimizer": ("sgd", "heavy_ball", "adam")[number % 3],
            }
            row |= {"lr": lr, "seed": seed, "final_accuracy": max(0.9 - 0.1 * away**2, 0.1)}
            row |= {f"train_loss_{steps}": abs(np.log10(lr)) for steps in public.PROBES}
            row["final_test_loss"] = "nan" if lr > 10 else "inf" if lr > 5 else away
            rows.append(row)
    path = tmp_path / "trainings.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_cases_and_probes_of_a_table(table):
    read = public.read(table)
    assert np.isinf(read["final_test_loss"]).sum() == 48 and read["final_test_loss"].isna().any()
    found = list(public.cases(read))
    assert len(found) == 24
    assert all(np.isclose(np.log10(grid.best.lr), -1, atol=0.02) for *_, grid in found)
    probes = score.probe_scores(read)
    # The lowest training loss is at 1, a decade too high.
    assert np.allclose(probes.groupby("divisor")["regret"].mean()[[1, 10]], [0.1, 0], atol=0.005)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="train_loss_300"), "the columns train_loss_300"),
        (lambda t: t.assign(more=1), "no columns more"),
        (lambda t: t.iloc[:-1], "1,080 trainings.*; it has 1,079"),
        (
            lambda t: t.assign(lr=t["lr"].where(t["lr"] < 50, 1.0)),
            "36 rates of p0 adam.*; it has 34",
        ),
        (lambda t: t.assign(epochs="many"), "numbers in the column epochs"),
    ],
)
def test_another_table_is_named_and_refused(table, change, words):
    change(pd.read_csv(table)).to_csv(table, index=False)
    with pytest.raises(InputError, match=words) as error:
        public.read(table)
    assert str(table) in str(error.value)


def test_a_missing_table_is_one_line(tmp_path):
    with pytest.raises(InputError, match="^table: expected"):
        public.read(tmp_path / "none.csv")


def test_the_problem_is_as_its_authors_describe_it():
    torch = pytest.importorskip("torch")
    from ground_truth import problem

    network = problem.make_network(0)
    assert sum(p.numel() for p in network.parameters()) == 895_210
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    pixels, labels = next(problem.batches(images, np.arange(200) % 10, 0))
    assert pixels.shape == (128, 3, 32, 32) and network(pixels).shape == (128, 10)
    flat = pixels.flatten(1)
    assert torch.allclose(flat.mean(1), torch.zeros(128), atol=1e-4)
    assert torch.allclose(flat.std(1), torch.ones(128), atol=1e-2)
    losses = [
        problem.batch_loss(problem.make_network(seed), (pixels, labels)).item() for seed in range(5)
    ]
    assert np.isclose(np.mean(losses), 3.58, atol=0.05)  # that of the public trainings: 3.59


def test_augmentation_keeps_a_grey_image_grey():
    pytest.importorskip("torch")
    from ground_truth import problem

    grey = np.repeat(np.arange(32, dtype=np.uint8)[None, :, None, None] * 8, 32, axis=2)
    found = problem.augment(np.repeat(grey, 3, axis=3), np.random.default_rng(0))
    assert np.allclose(found[..., 0], found[..., 1]) and np.allclose(found[..., 0], found[..., 2])


def test_the_quadratic_has_the_bound_that_the_public_trainings_show():
    """Stable at 0.0251 and not at 0.0398 there."""
    quadratic = pytest.importorskip("ground_truth.quadratic")
    assert 0.0251 < quadratic.stability_bound() < 0.0398
    curve = quadratic.curve(0)
    assert curve["loss"].iloc[0] > 250  # 353 there
    lowest = curve["lr"].iloc[curve["loss"].argmin()]
    assert 0.1 < lowest / quadratic.stability_bound() < 3


def test_the_settings_that_edge_was_made_on_can_be_made_again():
    """The cheapest of the 22: its range tests, until rounding could tell."""
    pytest.importorskip("torch")
    from ground_truth import development

    setting = ("digits", "mlp1", "plain", 64)
    assert setting in development.SETTINGS
    stored = pd.read_parquet(RESULTS / "development-curves.parquet")
    assert stored["setting"].nunique() == len(development.SETTINGS)
    stored = stored[stored["setting"] == "-".join(map(str, setting))].reset_index(drop=True)
    made = development.range_tests(setting)
    keys = ["ramp_steps", "draw", "step"]
    assert made[keys].equals(stored[keys]) and np.allclose(made["lr"], stored["lr"])
    stable = made["lr"] < 1e-2
    assert np.allclose(made["loss"][stable], stored["loss"][stable], rtol=1e-4)


def test_the_constants_of_edge_lose_little_where_they_were_chosen():
    """``python -m ground_truth.constants`` writes the table; of one row it is made again here."""
    stored = pd.read_parquet(RESULTS / "constants.parquet")
    keys = ["constant", "value", "schedule"]
    for constant, values in constants.TRIED.items():
        rows = stored[stored["constant"] == constant]
        assert set(rows["value"]) == set(values) and (rows["settings"] == 22).all()
        for schedule, margin in edge.MARGIN.items():
            used = margin if constant == "MARGIN" else getattr(edge, constant)
            points = rows[rows["schedule"] == schedule].set_index("value")["points"]
            assert points[used] < points.min() + 0.2
    again = pd.DataFrame(constants.scored("LAG", edge.LAG)).set_index(keys)
    assert np.allclose(again["points"], stored.set_index(keys).loc[again.index, "points"])


def test_committed_curves_are_whole_and_scored():
    curves = pd.concat(map(pd.read_parquet, sorted(RESULTS.glob("curves-*.parquet"))))
    scores = pd.read_parquet(RESULTS / "scores.parquet")
    drawn = curves[["optimizer", "steps", "seed"]].drop_duplicates()
    scored = scores[["setting", "ramp_steps", "draw"]].drop_duplicates()
    assert len(drawn) == len(scored) and curves["lr"].between(1e-7, 10.001).all()
    assert set(scores["setting"]) == {
        f"cifar10_3c3d-{name}" for name in ("sgd", "heavy_ball", "adam")
    }
