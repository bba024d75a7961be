# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The figures, from curves on disk
#
# Every figure of the report and of the post, redrawn from the tables of a study: the ones with
# results (`data/blog` at the post's scale, `data/resnet20`) where they are there, else the one
# that `params.yaml` names (`make study` runs it). Nothing is trained here. First the tables, then
# a figure of your own, then the report's.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import Image, Markdown, display

from lrrt import config as configuration
from lrrt.report import figures, study, style, wording

folders = (Path.cwd(), *Path.cwd().parents)
root = next((path for path in folders if (path / "params.yaml").is_file()), Path())
committed = [root / "reports" / name / "params.yaml" for name in ("blog", "resnet20")]
found = [path for path in committed if path.is_file()] or [root / "params.yaml"]
studies = [study.load(configuration.load(path), root, partial=True) for path in found]
data = studies[0]
for one in studies:
    print(one.source(), f"{one.curves['run'].nunique()} range tests.")
pd.set_option("display.max_columns", 20)

# %% [markdown]
# ## The tables
#
# Curves: one row a step, losses raw. Suggestions: one row a run and rule.

# %%
data.curves[["run", "backend", "protocol", "sweep", "weights_seed", "step", "lr", "loss"]].head()

# %%
columns = ["backend", "protocol", "sweep", "weights_seed", "rule", "min_lr", "max_lr"]
data.suggestions[columns].dropna().sample(5, random_state=0)

# %% [markdown]
# ## A figure of your own
#
# What the finders' defaults say on the same curves; `edge` is the default here. Change `rules`, or
# `sweep` to `"order"`.

# %% tags=["picture"]
rules = ["edge", "fastai_valley", "fastai_steep", "lightning", "torch_lr_finder", "blog_fastai"]
sweep = "weights"

rows = data.suggestions[data.suggestions["sweep"].eq(sweep) & data.suggestions["rule"].isin(rules)]
rows = rows.assign(
    lr=rows["max_lr"].fillna(rows["min_lr"]), framework=rows["backend"].map(wording.name)
)
figure, ax = plt.subplots(figsize=(6, 3))
sns.stripplot(
    rows,
    x="lr",
    y="rule",
    order=rules,
    hue="framework",
    palette={"Keras": style.COLOURS["keras", "blog_keras"], "PyTorch": style.TRAIN_COLOUR},
    dodge=True,
    alpha=0.6,
    log_scale=True,
    ax=ax,
)
ax.set(xlabel="suggested learning rate", ylabel="")
sns.move_legend(ax, "center left", bbox_to_anchor=(1, 0.5), title=None)
plt.show()

# %%
spread = rows.groupby(["framework", "rule"])["lr"].quantile([0.1, 0.5, 0.9]).unstack()
spread.assign(ratio=spread[0.9] / spread[0.1]).map("{:.2g}".format)

# %% [markdown]
# ## The report's figures
#
# Each is a module of `lrrt.report.figures`: `draw(data)` makes it, `title(data)` is its finding.


# %%
def show(*names):
    """Draw these figures of every study that has what they show."""
    with style.project_style():
        for one in studies:
            for name, case in figures.plan(one):
                drawing = figures.drawing(one, name, case) if name in names else None
                if drawing is not None:
                    display(Image(style.png(drawing.figure, dpi=80)), Markdown(drawing.caption))


show("gradient_descent", "typical")

# %% [markdown]
# ## How much one test varies

# %%
show("weights_sweep", "published", "pair")

# %% [markdown]
# ## What happens if one trains there

# %%
show("accuracy", "swaps", "policies")

# %% [markdown]
# ## Without smoothing, and by batch size

# %%
show("unsmoothed", "batch_sizes")
