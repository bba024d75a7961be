"""A report's files, all made before the first is written."""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from omegaconf import OmegaConf

from lrrt.analysis.claims import claims as judge
from lrrt.config import Config
from lrrt.report import style, summary, tables
from lrrt.report.figures import drawings
from lrrt.report.page import page
from lrrt.report.study import StudyData


def build(data: StudyData) -> dict[str, bytes]:
    """Every file of the report by its path in ``reports/<study>/``; equal data, equal bytes."""
    with np.errstate(all="ignore"):  # an exploded loss overflows here and there; it is drawn cut
        claims = judge(
            curves=data.curves,
            suggestions=data.suggestions,
            trainings=data.trainings,
            outcomes=data.outcomes,
            pairs=data.pairs,
            config=data.config,
            seconds=data.seconds,
        )
        with style.applied():
            drawn, images = [], {}
            for drawing in drawings(data):
                if drawing.figure is not None:
                    images[drawing.name] = style.encode(drawing.figure, data.config.report.dpi)
                drawn.append(drawing._replace(figure=None))  # one at a time in memory
    files = {
        f"figures/{name}.{kind}": content
        for name, kinds in images.items()
        for kind, content in kinds.items()
    }
    made = tables.tables(data, claims)
    origin = tables.source(data)
    for table in made:
        for kind, content in tables.encode(table, origin).items():
            files[f"tables/{table.name}.{kind}"] = content
    params = params_yaml(data.config)
    html = page(data, drawn, images, made, claims, summary.brief(data, claims), params)
    return files | {
        "plots/loss.json": _json(summary.loss_points(data)),
        "plots/ranges.json": _json(summary.range_points(data)),
        "metrics.json": _json(summary.metrics(data, claims)),
        "claims.json": _json(claims),
        "params.yaml": params.encode(),
        "report.html": html.encode(),
    }


def params_yaml(config: Config) -> str:
    """The configuration that decides a study's numbers, as YAML: all but where and how it ran.

    Of a local data path only the last name is kept.
    """
    values = OmegaConf.to_container(OmegaConf.structured(config))
    values["launcher"] = {"threads": config.launcher.threads, "device": config.launcher.device}
    if config.data.path:
        values["data"]["path"] = Path(config.data.path).name
    return OmegaConf.to_yaml(OmegaConf.create(values))


def _json(values: object) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Put ``files`` into ``folder``, all or, if writing fails, none.

    What the folder had of the same top-level names goes, figures of an earlier configuration with
    them, and what a killed writer left beside it; what else lies there stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        for abandoned in folder.parent.glob(f".{folder.name}.new-*"):
            shutil.rmtree(abandoned)
        _replace(folder, files)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time: no other takes its files for abandoned ones."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(folder: Path, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.new-", dir=folder.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        old.mkdir()
        for name, content in files.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for top in sorted({PurePosixPath(name).parts[0] for name in files}):
            if (folder / top).exists():
                shutil.move(folder / top, old / top)
            shutil.move(new / top, folder / top)
