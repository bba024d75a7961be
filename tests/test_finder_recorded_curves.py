"""Curves that other tools recorded, and what is undone of their smoothing."""

import json
import math

import numpy as np
import pytest
from finder_curves import LR, STEPS, curve, ends, losses, write

from lrrt.core.smoothing import ema
from lrrt.errors import InputError
from lrrt.finder.recorded_curves import load, unsmooth_ema, unsmooth_seeded


def test_smoothing_of_other_tools_is_undone():
    raw, counts = losses(), np.arange(1, STEPS + 1)
    assert unsmooth_ema(ema(raw)) == pytest.approx(raw, rel=1e-9)
    lightning = ema(raw) * (1 - 0.98**counts) / (1 - 0.98 ** (counts + 1))
    assert unsmooth_ema(lightning, offset=1) == pytest.approx(raw, rel=1e-9)
    seeded = [raw[0]]
    for value in raw[1:]:
        seeded.append(0.05 * value + 0.95 * seeded[-1])
    assert unsmooth_seeded(np.array(seeded)) == pytest.approx(raw, rel=1e-9)


def test_exports_are_read_by_their_usual_names(tmp_path):
    raw = losses()
    files = [
        (write(tmp_path / "fastai.csv", ["lrs", "losses"], [LR, ema(raw)]), "fastai"),
    ]
    log = tmp_path / "keras.csv"  # as Keras's CSVLogger writes it
    log.write_text(
        "epoch,learning_rate,loss,val_learning_rate,val_loss\n"
        + "".join(f"{i},{LR[i]},{raw[i]},NA,NA\n" for i in range(STEPS))
    )
    files.append((log, "keras"))
    history = tmp_path / "history.json"
    seeded = [raw[0]]
    for value in raw[1:]:
        seeded.append(0.05 * value + 0.95 * seeded[-1])
    history.write_text(json.dumps({"lr": LR.tolist(), "loss": seeded}))
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{"lr": a, "loss": b} for a, b in zip(LR, raw, strict=True)]))
    frame = tmp_path / "frame.tsv"  # as pandas writes it, index first
    frame.write_text("\tLR\tLoss\n" + "".join(f"{i}\t{LR[i]}\t{raw[i]}\n" for i in range(STEPS)))
    files += [(history, "torch_lr_finder"), (rows, "raw"), (frame, "raw")]
    for path, source in files:
        found = load(path, source)
        assert found.lr == pytest.approx(LR) and found.loss == pytest.approx(raw, rel=1e-6)
        assert found.suggest().lr == pytest.approx(curve().suggest().lr)
    assert "taken as raw" in load(files[0][0]).notes[0] and "epoch" in load(files[1][0]).notes[0]
    texts = tmp_path / "tensors.csv"  # as pandas writes a list of tensors
    texts.write_text(f'lr,loss\n1e-3,TensorBase({raw[0]:.4f})\n2e-3,"tensor(nan, dtype=x)"\n')
    assert load(texts).loss == pytest.approx([raw[0], math.nan], abs=1e-4, nan_ok=True)
    named = write(tmp_path / "own.csv", ["rate", "cost"], [LR, raw])
    assert np.array_equal(load(named, lr="rate", loss="cost").loss, raw)
    steps = ends(raw) + 1
    short = write(tmp_path / "short.csv", ["lr", "loss"], [LR[:steps], raw[:steps]])
    assert load(short, steps=STEPS).planned_lr == pytest.approx(LR)
    assert load(short, steps=STEPS).suggest().lr == pytest.approx(curve().suggest().lr)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "header"),
        ("lr,loss\n", "header"),
        ("lr,loss\n1\n", "2 values in each row.*got 1 in row 1"),
        ("a,b\n1,2\n", "lr column.*one of: a, b"),
        ("lr,b\n1,2\n", "loss column"),
        ("a,b\n1,2\n", "--lr COLUMN"),
        ("lr,loss\n1,2\n1,2\n", "got 1.0; it stays"),
        ("lr,loss\nx,2\n", "numbers in the column lr"),
        ("lr,loss,loss\n1,2,3\n", "got \\['loss'\\]; this one is there twice"),
        ("lr,loss\n1,2\n2,abc\n", "column loss, got 'abc' in row 2"),
        ("lr,loss\n1,2\n-2,1\n", "got -2.* in row 2"),
        ("lr,loss\n0,2\n", "positive"),
        ("lr,loss\n2,2\n1,2\n", "rises, got a fall in row 2"),
        ("lr,loss\n,2\n", "positive"),
    ],
)
def test_bad_files(tmp_path, content, words):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        load(path)


def test_more_bad_files(tmp_path):
    with pytest.raises(InputError, match="file.*No such file"):
        load(tmp_path / "none.csv")
    with pytest.raises(InputError, match="from: .*fastai.*got 'caffe'"):
        load(tmp_path / "none.csv", "caffe")
    path = tmp_path / "bad.JSON"
    for text, words in (
        ("{", "JSON"),
        ("3", "mapping"),
        ('{"lr": 1, "loss": [2]}', "list"),
        ("[" * 100_000, r"JSON \(maximum recursion"),
        ("[" + "9" * 5000 + "]", r"JSON \(Exceeds"),
        ('{"lr": [1, 2], "loss": [1, 1' + "0" * 400 + "]}", "column loss, got 1000"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text"):
        load(path)
    short = write(tmp_path / "short.csv", ["lr", "loss"], [LR[:9], losses()[:9]])
    with pytest.raises(InputError, match="steps: .*got 5"):
        load(short, steps=5)


def test_headers_and_suffixes_in_any_case_after_blank_lines(tmp_path):
    path = write(tmp_path / "own.csv", ["LR", "Loss"], [LR, losses()])
    assert "taken as raw" in load(path).notes[0]
    path.write_text(f"\n  \n\tlr\tloss\n1\t{LR[0]}\t2,5\n2\t{LR[1]}\t2".replace(",", "."))
    assert load(path).loss.tolist() == [2.5, 2]  # the delimiter is that of the first line with any
    path.write_text("\n\nlr,loss\n1,2\n3,4\n")
    assert load(path).loss.tolist() == [2, 4]
    kept = curve(stopped="so it was").save(tmp_path / "curve.JSON")
    assert load(kept).stopped == "so it was"
