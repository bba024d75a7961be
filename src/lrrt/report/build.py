"""A report's files, all made before the first is written."""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path, PurePosixPath

import numpy as np
from omegaconf import OmegaConf

from lrrt.claims import judge
from lrrt.config import Config
from lrrt.report import figures, style, summary, tables, verdicts
from lrrt.report.figures import Drawing
from lrrt.report.page import page
from lrrt.report.study import StudyData
from lrrt.runs.processes import die_with_parent, usable_cores


def build(data: StudyData, claims: list[dict] | None = None) -> dict[str, bytes]:
    """Every file of the report by its path in ``reports/<study>/``; equal data, equal bytes."""
    with np.errstate(all="ignore"):  # an exploded loss overflows here and there; it is drawn cut
        claims = verdicts.records(judge([data])) if claims is None else claims
        with style.project_style():
            made = [found for found in _draw_all(data) if found is not None]
    drawn = [drawing for drawing, _ in made]
    images = {drawing.name: encoded for drawing, encoded in made}
    files = {
        f"figures/{name}.{kind}": content
        for name, kinds in images.items()
        for kind, content in kinds.items()
    }
    shown = tables.tables(data, claims)
    origin = tables.source(data)
    for table in shown:
        for kind, content in tables.encode(table, origin).items():
            files[f"tables/{table.name}.{kind}"] = content
    params = params_yaml(data.config)
    html = page(data, drawn, images, shown, claims, summary.brief(data, claims), params)
    return files | {
        "metrics.json": _json(summary.metrics(data, claims)),
        "numbers.json": _json(summary.numbers(data, claims)),
        "claims.json": _json(claims),
        "params.yaml": params.encode(),
        "report.html": html.encode(),
    }


def _draw_all(data: StudyData) -> list[tuple[Drawing, dict[str, bytes]] | None]:
    """Every drawing without its figure, and the files of that, drawn on all cores."""
    each, cores = figures.plan(data), usable_cores()
    if cores == 1 or sys.platform != "linux":  # where a fork does not take what has been imported
        return [_encode(data, *one) for one in each]
    with ProcessPoolExecutor(cores, get_context("fork"), _share, (data,)) as pool:
        return list(pool.map(_encode_shared, each))


def _share(data: StudyData) -> None:
    """In a process of the pool."""
    global _shared
    _shared = data
    die_with_parent()


def _encode_shared(each: tuple[str, tuple]) -> tuple[Drawing, dict[str, bytes]] | None:
    return _encode(_shared, *each)


def _encode(data: StudyData, name: str, case: tuple) -> tuple[Drawing, dict[str, bytes]] | None:
    drawing = figures.drawing(data, name, case)
    if drawing is None:
        return None
    files = style.encode(drawing.figure, data.config.report.dpi)
    return drawing._replace(figure=None), files


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
    """Put ``files`` into ``folder``: all are written beside it before the first is moved there.

    What the folder had of the same top-level names goes, figures of an earlier configuration with
    them, and what a killed writer left beside it; what else lies there stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        for abandoned in folder.parent.glob(f".{folder.name}.new-*"):
            shutil.rmtree(abandoned)
        _replace(folder, files)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
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
            try:
                shutil.move(new / top, folder / top)
            except BaseException:
                if (old / top).exists():
                    shutil.move(old / top, folder / top)
                raise
