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
# # The post's figures, from curves on disk
#
# Every figure of "The Learning Rate Finder Technique: How Reliable Is It?", redrawn from the range
# tests of a study: the one at the post's scale (`data/blog`) where it is there, else the one that
# `params.yaml` names (`make study` runs it). Nothing is trained here. The same functions draw the
# report; `lrrt.report.figures` has one module for each figure.

# %%
from pathlib import Path

from IPython.display import Image, Markdown, display

from lrrt import config as configuration
from lrrt.report import study, style
from lrrt.report.figures import (
    batch_sizes,
    navigation,
    pair,
    published,
    runs,
    same_weights,
    typical,
    unsmoothed,
)

root = next(path for path in (Path.cwd(), *Path.cwd().parents) if (path / "params.yaml").is_file())
blog = root / "reports" / "blog" / "params.yaml"
params = blog if blog.is_file() else root / "params.yaml"
data = study.load(configuration.load(params), root, partial=True)
print(data.source(), f"{data.curves['run'].nunique()} range tests.")


# %%
def show(figure_module, *case):
    """Draw one figure of this study, its caption below; say so where the study lacks its data."""
    with style.applied():
        figure = figure_module.draw(data, *case)
        if figure is None:
            print(f"{figure_module.TITLE}: needs {figure_module.NEEDS}")
            return
        display(Image(style.png(figure, dpi=90)))
        display(Markdown(figure_module.caption(data, *case)))


def show_all(figure_module):
    """The same for each case of a figure: a backend and a protocol."""
    cases = figure_module.cases(data)
    if not cases:
        print(f"{figure_module.TITLE}: needs {figure_module.NEEDS}")
    for case in cases:
        display(Markdown(f"**{figure_module.title(case)}**"))
        show(figure_module, case)


# %% [markdown]
# ## How the learning rate shapes the way down

# %%
show(navigation)

# %% [markdown]
# ## The typical range test
# A plateau, a descent, an explosion; and the range that the rule reads off.

# %%
show(typical)

# %% [markdown]
# ## New initial weights each run
# In Keras and in PyTorch with fastai's protocol, as in the post; then each protocol on the other
# framework, which the post did not run.

# %%
show_all(runs)

# %% [markdown]
# ## The same initial weights each run
# Only the order of the batches and their augmentation change.

# %%
show_all(same_weights)

# %% [markdown]
# ## The published values beside these

# %%
show(published)

# %% [markdown]
# ## Two initialisations, two ranges

# %%
show_all(pair)

# %% [markdown]
# ## Training and validation loss without smoothing

# %%
show_all(unsmoothed)

# %% [markdown]
# ## Batch sizes

# %%
show_all(batch_sizes)
