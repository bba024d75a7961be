"""What training at a suggested rate loses against the best: scores over grids of trainings.

Definitions and reasons: ``docs/ground_truth.md``. A *setting* is a data set, a network, an
optimiser, a batch size and a number of steps. Everything here takes and gives arrays and frames.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from lrrt.analysis.statistics import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES

NEAR = 0.75  # decades on either side of the best rate that its parabola is fitted in
STEEP = 0.25  # share of the gain over a guess: rates that lose more are beside a cliff
MARGIN = 0.25  # decades that the optimum keeps below a rate at which a seed collapsed
COLLAPSE = 0.5  # share of the gain over a guess: what loses more has collapsed
FINE = 5  # rates near the best that a seed needs for the optimum to be read off it
#: Evaluations that a training's score is the mean of.
LATEST = {"constant": 3, "one_cycle": 1, "triangular": 1, "warm_restarts": 1}
BOUND = 0.9  # of the prediction bound for a new setting
MULTIPLES = 10 ** (np.arange(-8, 9) / 4)  # that a rule is multiplied with, of "times a constant"
CLOSE = 1e-9  # decades: two rates that are one

#: By optimiser: what someone who runs no finder takes. The first is the default.
FIXED = {"sgd": (0.1, 0.01), "adam": (1e-3, 3e-4), "adamw": (1e-3, 3e-4)}


def training_score(
    accuracy: np.ndarray,
    log_loss: np.ndarray,
    schedule: str,
    guess: float,
    untrained: float,
) -> tuple[float, float]:
    """Accuracy and log-loss of one training, from its evaluations in order.

    A training that diverged (any value is not finite) scores as the untrained network; no log-loss
    counts as worse than that.

    Parameters
    ----------
    accuracy, log_loss : arrays of shape (evaluations,)
    schedule : str
        A key of :data:`LATEST`.
    guess, untrained : float
        Accuracy of a guess, log-loss of the untrained network.
    """
    latest = slice(-LATEST[schedule], None)
    if not np.isfinite(log_loss).all():
        return guess, untrained
    return float(accuracy[latest].mean()), float(np.minimum(log_loss[latest], untrained).mean())


@dataclass(frozen=True, eq=False)
class Grid:
    """Trainings of one setting and schedule in one measure, of which more is better.

    ``rates``: (m,), rising. ``values``: (seeds, m), NaN where there is no training. ``floor``: the
    value of the untrained network, or of a guess.
    """

    rates: np.ndarray
    values: np.ndarray
    floor: float

    @cached_property
    def decades(self) -> np.ndarray:
        return np.log10(self.rates)

    @cached_property
    def means(self) -> np.ndarray:
        """Over the seeds that each rate has, (m,)."""
        return np.nanmean(self.values, axis=0)

    @cached_property
    def best(self) -> "Optimum":
        """Fitted on all seeds."""
        return self._optimum(self.values)

    @cached_property
    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Seeds that the optimum can be read off, and its value on each when it is fitted on the
        others (cross-fitting); a single seed's is the parabola's own.
        """
        near = np.abs(self.decades - self.decades[self.means.argmax()]) <= NEAR + CLOSE
        fine = np.flatnonzero(np.isfinite(self.values[:, near]).sum(axis=1) >= FINE)
        if len(fine) < 2:
            return np.array([-1]), np.array([self.best.value])
        found = []
        for seed in fine:
            fitted = self._optimum(np.delete(self.values, seed, axis=0))
            found.append(np.interp(np.log10(fitted.lr), self.decades, self.of_seed(seed)))
        return fine, np.array(found)

    def _optimum(self, values: np.ndarray) -> "Optimum":
        known = np.isfinite(values).any(axis=0)
        means = np.nanmean(values[:, known], axis=0)
        return optimum(self.decades[known], means, self.floor, self.ceiling)

    @cached_property
    def ceiling(self) -> float:
        """log10 of the lowest rate from the best mean up at which a seed collapsed; infinite
        without one. Of all seeds: a cliff is no luck that has to be averaged out."""
        best = self.means.argmax()
        least = self.means[best] - COLLAPSE * (self.means[best] - self.floor)
        collapsed = np.nanmin(self.values, axis=0)[best:] < least
        return float(self.decades[best:][collapsed].min(initial=np.inf))

    def of_seed(self, seed: int) -> np.ndarray:
        """Values of one seed, and the mean of the others at rates that it lacks; -1: the means."""
        if seed == -1:
            return self.means
        return np.where(np.isfinite(self.values[seed]), self.values[seed], self.means)

    def regret(self, lrs: np.ndarray) -> np.ndarray:
        """Value at the optimum minus value at each of the rates, (held-out seeds, rates).

        Linear in log LR between the trained rates; beyond them it is the value at their end.
        """
        seeds, at_best = self.held_out
        curves = np.array([np.interp(np.log10(lrs), self.decades, self.of_seed(s)) for s in seeds])
        return at_best[:, None] - curves

    @property
    def gain(self) -> float:
        """Of the optimum over the floor."""
        return float(self.held_out[1].mean()) - self.floor

    @property
    def is_cut_off(self) -> bool:
        """Whether the best rate lies within a quarter of a decade of the outermost trained ones."""
        x = np.log10(self.best.lr)
        return bool(min(x - self.decades[0], self.decades[-1] - x) < 0.25 - CLOSE)


@dataclass(frozen=True)
class Optimum:
    """``is_smoothed``: of a parabola, not the best mean."""

    lr: float
    value: float
    is_smoothed: bool


def optimum(
    decades: np.ndarray, means: np.ndarray, floor: float, ceiling: float = np.inf
) -> Optimum:
    """Vertex of a parabola in log LR through the means near the best (Lourie et al., 2025).

    Of the rates within :data:`NEAR` of the best it takes those that lose less than :data:`STEEP` of
    the best's gain over ``floor``, so that no cliff bends it, and of all rates those at least
    :data:`MARGIN` below ``ceiling``, if there are such, so that the optimum is not at its foot.
    With fewer than three, or where it opens upwards, the best mean takes its place; a vertex
    beyond the rates that it was fitted to is moved to the last of them.
    """
    safe = decades <= ceiling - MARGIN + CLOSE
    safe |= not safe.any()
    top = int(np.where(safe, means, -np.inf).argmax())
    near = safe & (np.abs(decades - decades[top]) <= NEAR + CLOSE)
    near &= means > means[top] - STEEP * (means[top] - floor)
    if near.sum() >= 3:
        curved, sloped, level = np.polyfit(decades[near] - decades[top], means[near], 2)
        if curved < 0:
            low, high = decades[near][[0, -1]] - decades[top]
            away = float(np.clip(-sloped / (2 * curved), low, high))
            value = float(np.polyval((curved, sloped, level), away))
            return Optimum(float(10 ** (decades[top] + away)), value, True)
    return Optimum(float(10 ** decades[top]), float(means[top]), False)


def grids(trainings: pd.DataFrame, measure: str) -> dict[tuple[str, str], Grid]:
    """A :class:`Grid` by setting and schedule.

    Parameters
    ----------
    trainings : DataFrame
        One row a training: setting, schedule, seed, lr, accuracy, log_loss, guess, untrained
        (accuracy of a guess and log-loss of the untrained network, of a setting).
    measure : {"accuracy", "log_loss"}
    """
    found = {}
    for key, rows in trainings.groupby(["setting", "schedule"], sort=False):
        sign, floor = (1, "guess") if measure == "accuracy" else (-1, "untrained")
        table = rows.pivot_table(measure, "seed", "lr", aggfunc="mean")
        found[key] = Grid(
            table.columns.to_numpy(float), sign * table.to_numpy(float), sign * rows[floor].mean()
        )
    return found


def scale_free(grid: Grid, lrs: np.ndarray) -> np.ndarray:
    """Regret as a share of what the optimum gains over the untrained network."""
    return grid.regret(lrs) / grid.gain


SCORE_COLUMNS = (
    *("setting", "optimizer", "schedule", "rule", "ramp_steps", "draw"),
    *("suggested_lr", "best_lr", "regret_accuracy", "regret_log_loss", "regret_share"),
    *("collapsed", "abstained", "cautioned", "beyond_grid", "place"),
)
#: The rule that takes the optimiser's first rate of :data:`FIXED`.
DEFAULT = "fixed.default"


class Scores(NamedTuple):
    """``table``: a row a suggestion. ``by_seed``, by setting and schedule: the regrets of each
    held-out seed in the setting's own measure, (seeds, rows of that setting), numbered by the
    column ``place``."""

    table: pd.DataFrame
    by_seed: dict[tuple[str, str], np.ndarray]


def score_table(
    trainings: pd.DataFrame, suggested: pd.DataFrame, *, by_log_loss: set[str] = frozenset()
) -> "Scores":
    """The score of each suggestion under each schedule that its setting was trained with.

    Parameters
    ----------
    trainings : DataFrame
        See :func:`grids`.
    suggested : DataFrame
        setting, optimizer, rule, ramp_steps, draw, lr (NaN where the rule abstains: it is scored
        at the optimiser's first rate of :data:`FIXED`), and maybe ``cautioned``.
    by_log_loss : set of str
        Settings whose best rate and collapses are those of the log-loss (language); their regret
        in accuracy is NaN.

    Returns
    -------
    Scores
        Of its table's columns, :data:`SCORE_COLUMNS`, regrets are means over held-out seeds, in
        accuracy (0 to 1), log-loss (nats), and log-loss as a share of what the best training gains
        over the untrained network.
    """
    of_measure = {name: grids(trainings, name) for name in ("accuracy", "log_loss")}
    parts, by_seed = [], {}
    for key in of_measure["log_loss"]:
        setting, schedule = key
        rows = suggested[suggested["setting"] == setting]
        if not len(rows):
            continue
        accuracy, log_loss = of_measure["accuracy"][key], of_measure["log_loss"][key]
        own = log_loss if setting in by_log_loss else accuracy
        default = rows["optimizer"].map(lambda name: FIXED[name][0])
        lrs = rows["lr"].fillna(default).to_numpy(np.float64)
        by_seed[key] = own.regret(lrs)
        own_regret = by_seed[key].mean(axis=0)
        blank = np.full(len(lrs), np.nan)
        parts.append(
            rows[["setting", "optimizer", "rule", "ramp_steps", "draw"]].assign(
                schedule=schedule,
                suggested_lr=lrs,
                best_lr=own.best.lr,
                regret_accuracy=blank if setting in by_log_loss else own_regret,
                regret_log_loss=log_loss.regret(lrs).mean(axis=0),
                regret_share=scale_free(log_loss, lrs).mean(axis=0),
                collapsed=own_regret > COLLAPSE * own.gain,
                place=np.arange(len(lrs)),
                abstained=rows["lr"].isna().to_numpy(),
                cautioned=rows["cautioned"].to_numpy() if "cautioned" in rows else False,
                beyond_grid=(lrs < own.rates[0] * (1 - 1e-6)) | (lrs > own.rates[-1] * (1 + 1e-6)),
            )[list(SCORE_COLUMNS)]
        )
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=SCORE_COLUMNS)
    return Scores(table, by_seed)


def times_constant(
    trainings: pd.DataFrame,
    suggested: pd.DataFrame,
    schedule: str,
    *,
    by_log_loss: set[str] = frozenset(),
) -> pd.DataFrame:
    """Each rule times a constant that is fitted on the other settings.

    Of :data:`MULTIPLES` the one of least mean regret in accuracy over all settings but the one that
    is scored, and those of ``by_log_loss``; where the rule always abstains nothing is learnt.

    Returns
    -------
    DataFrame
        As ``suggested``, the rule's name followed by `` x constant``, and ``factor``.
    """
    of_accuracy = grids(trainings, "accuracy")
    parts = []
    for (rule, _), rows in suggested.groupby(["rule", "ramp_steps"], sort=False):
        means = {}
        for setting, drawn in rows.groupby("setting", sort=False):
            lrs = drawn["lr"].dropna().to_numpy()
            if len(lrs) and (setting, schedule) in of_accuracy and setting not in by_log_loss:
                regrets = of_accuracy[setting, schedule].regret((MULTIPLES[:, None] * lrs).ravel())
                means[setting] = regrets.mean(axis=0).reshape(len(MULTIPLES), -1).mean(axis=1)
        for setting, drawn in rows.groupby("setting", sort=False):
            others = [values for name, values in means.items() if name != setting]
            if others and (setting, schedule) in of_accuracy:
                factor = MULTIPLES[np.mean(others, axis=0).argmin()]
                named = {"rule": f"{rule} x constant", "factor": factor}
                parts.append(drawn.assign(lr=drawn["lr"] * factor, **named))
    return pd.concat(parts, ignore_index=True) if parts else suggested.iloc[:0].assign(factor=1.0)


def setting_means(values: list[np.ndarray], resamples: int = RESAMPLES) -> np.ndarray:
    """Means of each setting's regrets over resampled seeds and draws, (settings, resamples).

    ``values``: by setting an array (seeds, draws). The same seed every time, so that two rules with
    arrays of the same shapes are resampled alike.
    """
    found = np.empty((len(values), resamples))
    for i, value in enumerate(values):
        seeds, draws = (_counts(2 * i + axis, n, resamples) for axis, n in enumerate(value.shape))
        found[i] = ((seeds @ value) * draws).sum(axis=1) / value.size
    return found


@lru_cache(maxsize=256)
def _counts(stream: int, n: int, resamples: int) -> np.ndarray:
    """How often each of ``n`` is drawn, (resamples, n)."""
    random = np.random.default_rng([BOOTSTRAP_SEED, stream])
    return random.multinomial(n, np.full(n, 1 / n), resamples)


def hierarchical_interval(
    values: list[np.ndarray], resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % percentile interval of the mean over settings of each one's mean.

    Resamples settings, then seeds and draws in each; NaN for fewer than two settings.
    """
    if len(values) < 2:
        return np.nan, np.nan
    means = setting_means(values, resamples)
    random = np.random.default_rng(BOOTSTRAP_SEED + 1)
    chosen = random.integers(0, len(values), means.shape)
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(np.take_along_axis(means, chosen, axis=0).mean(axis=0), tails)
    return float(low), float(high)


def prediction_bound(regrets: np.ndarray, level: float = BOUND) -> float:
    """What a new setting's regret stays below with probability ``level`` (split conformal).

    The ceil(level (n + 1))-th smallest of the n settings' regrets, infinite where that is more
    than n. Holds for a setting exchangeable with these.
    """
    rank = int(np.ceil(level * (len(regrets) + 1) - 1e-12))
    return float(np.sort(regrets)[rank - 1]) if rank <= len(regrets) else np.inf


def left_out_coverage(regrets: np.ndarray, level: float = BOUND) -> float:
    """Share of settings whose regret is at most the bound from the others; NaN without a bound."""
    bounds = [prediction_bound(np.delete(regrets, i), level) for i in range(len(regrets))]
    if not np.isfinite(bounds).all() or not bounds:
        return np.nan
    return float(np.mean(regrets <= bounds))


def interval_factors(errors: list[np.ndarray], level: float = 0.8) -> tuple[float, float]:
    """Errors that one of a new setting lies between with probability ``level`` or a little more.

    Split conformal, a setting a unit: of n settings' errors the floor((1 - level) / 2 (n + 1))-th
    from below and from above; the draws of a setting share its weight.

    Parameters
    ----------
    errors : list of arrays of shape (draws,)
        By setting.

    Returns
    -------
    Lowest and highest; infinite where the settings are too few.
    """
    n = len(errors)
    outside = np.floor((1 - level) / 2 * (n + 1) + 1e-12)
    if not outside:
        return -np.inf, np.inf
    values = np.concatenate(errors)
    weights = np.concatenate([np.full(len(of), 1 / len(of)) for of in errors])
    order = np.argsort(values)
    passed = np.cumsum(weights[order])
    low = values[order][np.searchsorted(passed, outside - 1e-9)]
    high = values[order][np.searchsorted(passed, n - outside + 1e-9)]
    return float(low), float(high)


def interval_coverage(errors: list[np.ndarray], level: float = 0.8) -> float:
    """Mean share of a setting's errors between those from the others; NaN if they are too few."""
    held = []
    for i, own in enumerate(errors):
        low, high = interval_factors(errors[:i] + errors[i + 1 :], level)
        if not np.isfinite(low):
            return np.nan
        held.append(((low <= own) & (own <= high)).mean())
    return float(np.mean(held)) if held else np.nan


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of a mean of zero, by flipping the signs of the settings' differences."""
    if len(differences) < 2 or np.allclose(differences, 0):
        return 1.0
    found = stats.permutation_test(
        (differences,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        n_resamples=10_000,
        vectorized=True,
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    )
    return float(found.pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """P-values corrected for their number (Holm, 1979), in the order given."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    raised = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(raised, 1)
    return corrected


RULE_COLUMNS = (
    *("schedule", "rule", "ramp_steps", "settings", "text_settings", "draws", "abstained"),
    *("regret", "regret_low", "regret_high", "regret_90", "coverage_90", "worst_setting"),
    *("share", "share_low", "share_high", "collapse_rate", "within_2", "within_5"),
    *("above", "below", "against_default", "against_low", "against_high", "p", "p_holm"),
)


def rule_table(
    scores: Scores, resamples: int = RESAMPLES, *, primary: tuple[str, str] | None = None
) -> pd.DataFrame:
    """One row a schedule, ramp and rule, by mean regret.

    ``regret``, its 95 % interval and its 90 % bound for a new setting are in accuracy (0 to 1) over
    ``settings``; ``share`` in log-loss over those and the ``text_settings``. ``collapse_rate``,
    ``abstained`` and ``above``, ``below`` (decades from the best: means of the positive and of
    the negative part) are means over all settings, ``within_2`` and ``within_5`` over those with a
    regret in accuracy. ``against_default``: regret minus that of ``fixed.default``, ``p_holm``
    corrected over all rows of a ramp but the ``primary`` one (schedule, rule).

    Parameters
    ----------
    scores : Scores
        Of :func:`score_table`.
    """
    rows = []
    for schedule, of_schedule in scores.table.groupby("schedule", sort=False):
        default = _arrays(scores, of_schedule[of_schedule["rule"] == DEFAULT])
        for (rule, steps), drawn in of_schedule.groupby(["rule", "ramp_steps"], sort=False):
            rows.append({"schedule": schedule, "rule": rule, "ramp_steps": steps})
            rows[-1] |= _summary(drawn, _arrays(scores, drawn), default, resamples)
    table = pd.DataFrame(rows, columns=list(RULE_COLUMNS))
    for _, members in table.groupby("ramp_steps"):
        asked = members[(members["rule"] != DEFAULT) & members["p"].notna()]
        if primary is not None:
            is_primary = (asked["schedule"] == primary[0]) & (asked["rule"] == primary[1])
            asked = asked[~is_primary]
        table.loc[asked.index, "p_holm"] = holm(asked["p"].to_numpy())
    return table.sort_values(["schedule", "ramp_steps", "regret"], ignore_index=True)


def _arrays(scores: Scores, drawn: pd.DataFrame) -> dict[str, np.ndarray]:
    """Regrets in accuracy of one rule and schedule by setting, (seeds, draws)."""
    found = {}
    for (setting, schedule), rows in drawn.groupby(["setting", "schedule"], sort=False):
        if rows["regret_accuracy"].notna().all():
            found[setting] = scores.by_seed[setting, schedule][:, rows["place"]]
    return found


def _summary(
    drawn: pd.DataFrame,
    arrays: dict[str, np.ndarray],
    default: dict[str, np.ndarray],
    resamples: int,
) -> dict:
    means = np.array([values.mean() for values in arrays.values()])
    codes, names = pd.factorize(drawn["setting"])
    counts = np.bincount(codes)

    def over_settings(values: np.ndarray) -> float:
        """Mean over settings of each one's mean; settings with a missing value are left out."""
        return float(np.nanmean(np.bincount(codes, values) / counts))

    away = np.log10(drawn["suggested_lr"] / drawn["best_lr"]).to_numpy()
    share, lost = (drawn[f"regret_{of}"].to_numpy() for of in ("share", "accuracy"))
    shares = [share[codes == code][None] for code in range(len(names))]
    found = {
        "settings": len(arrays),
        "text_settings": len(names) - len(arrays),
        "draws": len(drawn),
        "abstained": over_settings(drawn["abstained"].to_numpy()),
        "collapse_rate": over_settings(drawn["collapsed"].to_numpy()),
        "share": over_settings(share),
        "above": over_settings(np.maximum(away, 0)),
        "below": over_settings(np.maximum(-away, 0)),
    }
    found["share_low"], found["share_high"] = hierarchical_interval(shares, resamples)
    if not len(arrays):
        return found
    for points in (2, 5):
        near = np.where(np.isnan(lost), np.nan, lost <= points / 100)
        found[f"within_{points}"] = over_settings(near)
    found["regret"], found["regret_90"] = means.mean(), prediction_bound(means)
    found["coverage_90"] = left_out_coverage(means)
    found["worst_setting"] = list(arrays)[means.argmax()]
    interval = hierarchical_interval(list(arrays.values()), resamples)
    found["regret_low"], found["regret_high"] = interval
    both = [setting for setting in arrays if setting in default]
    if both:
        differences = [arrays[s] - default[s].mean(axis=1, keepdims=True) for s in both]
        of_settings = np.array([values.mean() for values in differences])
        found["against_default"] = of_settings.mean()
        found["p"] = sign_flip_p(of_settings)
        interval = hierarchical_interval(differences, resamples)
        found["against_low"], found["against_high"] = interval
    return found
