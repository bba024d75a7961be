"""Data sets: the file they are kept in, the digits, CIFAR-10 in its editions, the data stage."""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lrrt import config as configuration
from lrrt.config import Config, DataSection
from lrrt.datasets import (
    Dataset,
    _archive,
    _download,
    _parquet,
    cifar10,
    digits,
    load,
    open_dataset,
    pixel_statistics,
    save,
)
from lrrt.errors import InputError
from lrrt.report.figures import samples
from lrrt.stages import data as stage

SHARED = Path(__file__).parents[2] / "shared" / "data" / "cifar10"


def small(**changes) -> Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    values = dict(
        train_images=images[:6],
        train_labels=np.array([0, 1, 2, 0, 1, 2]),
        test_images=images[6:],
        test_labels=np.array([2, 1, 0]),
        mean=np.array([0.1, 0.2, 0.3]),
        std=np.array([0.4, 0.5, 0.6]),
        classes=("a", "b", "c"),
        description="small",
        sources={"file": "sum"},
    )
    return Dataset(**{**values, **changes})


# --- Dataset and its file


def test_arrays_are_read_only_and_the_given_ones_untouched():
    labels = np.array([2, 1, 0])
    dataset = small(test_labels=labels)
    with pytest.raises(ValueError, match="read-only"):
        dataset.test_labels[0] = 1
    labels[0] = 0  # still the caller's own


@pytest.mark.parametrize(
    "changes",
    [
        {"train_labels": np.array([0, 1, 2, 0, 1, 3])},
        {"train_labels": np.array([0, 1, 2, 0, 1, -1])},
        {"train_labels": np.array([0, 1, 2])},
        {"test_images": np.zeros((3, 4, 5, 3), np.uint8)},
        {"test_images": np.zeros((0, 4, 4, 3), np.uint8), "test_labels": np.zeros(0, np.int64)},
        {"train_images": np.zeros((6, 4, 4), np.uint8)},
        {"mean": np.zeros(4)},
    ],
)
def test_what_does_not_fit_together_is_no_dataset(changes):
    with pytest.raises(ValueError):
        small(**changes)


def test_floating_point_images_are_refused():
    with pytest.raises(TypeError):
        small(train_images=np.zeros((6, 4, 4, 3)))


def test_digest_is_of_the_content():
    digest = small().digest
    assert small(description="other", sources={}).digest == digest
    image = small().train_images.copy()
    image[5, 3, 3, 2] ^= 1
    changes = [
        {"train_images": image},
        {"test_labels": np.array([2, 1, 1])},
        {"std": np.array([0.4, 0.5, 0.7])},
        {"classes": ("a", "b", "d")},
        {"classes": ("a", "b", "c", "d")},
    ]
    assert len({digest, *(small(**change).digest for change in changes)}) == len(changes) + 1


def test_pixel_statistics_are_those_of_numpy():
    images = np.random.default_rng(0).integers(0, 256, (2050, 5, 3, 2), dtype=np.uint8)
    images[..., 1] //= 7
    mean, std = pixel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-12)


def test_file_gives_back_what_was_saved(tmp_path):
    dataset, path = small(), tmp_path / "new" / "dataset.safetensors"
    save(dataset, path)
    opened = open_dataset(path)
    for field in dataclasses.fields(Dataset):
        saved, read = getattr(dataset, field.name), getattr(opened, field.name)
        assert np.array_equal(saved, read) and type(saved) is type(read), field.name
    assert opened.digest == dataset.digest
    assert not opened.train_images.flags.writeable
    assert isinstance(memory_of(opened.train_images), np.memmap)
    content = path.read_bytes()
    save(opened, path)
    assert path.read_bytes() == content and len(list(path.parent.iterdir())) == 1


def memory_of(array: np.ndarray) -> np.ndarray:
    while not isinstance(array, np.memmap) and isinstance(array.base, np.ndarray):
        array = array.base
    return array


def test_no_damage_is_ever_read(tmp_path):
    path, dataset = tmp_path / "dataset.safetensors", small()
    save(dataset, path)
    sound = path.read_bytes()
    cuts = [sound[:length] for length in (0, 4, 8, 100, len(sound) // 2, len(sound) - 1)]
    flips = [
        sound[:place] + bytes([sound[place] ^ (1 << place % 8)]) + sound[place + 1 :]
        for place in range(0, len(sound), 3)
    ]
    harmless = 0
    for content in [*cuts, *flips, sound + b"0"]:
        path.write_bytes(content)
        try:
            opened = open_dataset(path)
        except InputError as error:
            assert str(path) in str(error) and "lrrt.stages.data" in str(error)
        else:  # a flip in the padding
            harmless += 1
            assert opened.digest == dataset.digest and opened.sources == dataset.sources
    assert harmless < 16


def test_missing_file_and_folder_are_named(tmp_path):
    for path, word in ((tmp_path / "none", "missing"), (tmp_path, "unreadable")):
        with pytest.raises(InputError, match=word):
            open_dataset(path)


def test_unknown_name_lists_what_exists():
    with pytest.raises(InputError, match="one of: cifar10, digits"):
        load(DataSection("mnist"))


# --- digits


@pytest.fixture(scope="module")
def rendered():
    return load(DataSection("digits", train_images=450, test_images=130))


def test_digits_are_the_same_bits_everywhere(rendered):
    assert rendered.digest == ("d1734475d0151f0ee3105f15a1da238ede0da83fc796c7e922a44d76592883c4")


def test_digits_are_balanced_and_distinct(rendered):
    assert rendered.train_images.shape == (450, 32, 32, 3)
    assert np.bincount(rendered.train_labels).tolist() == [45] * 10
    assert np.bincount(rendered.test_labels).tolist() == [13] * 10
    everything = np.concatenate([rendered.train_images, rendered.test_images])
    assert len({image.tobytes() for image in everything}) == 580
    mean, std = pixel_statistics(rendered.train_images)
    assert np.array_equal(mean, rendered.mean) and np.array_equal(std, rendered.std)


def test_fewer_digits_are_the_beginning_of_more(rendered):
    fewer = load(DataSection("digits", train_images=123, test_images=130))
    assert np.array_equal(fewer.train_images, rendered.train_images[:123])
    assert np.array_equal(fewer.train_labels, rendered.train_labels[:123])
    assert np.array_equal(fewer.test_images, rendered.test_images)
    other = load(DataSection("digits", train_images=123, test_images=10, seed=1))
    assert not np.array_equal(fewer.train_images, other.train_images)


def test_no_source_digit_is_on_both_sides():
    labels = np.repeat(np.arange(10), 23)
    train, test = digits.split(labels, np.random.default_rng(0))
    assert sorted([*train, *test]) == list(range(230))
    assert np.bincount(labels[test]).tolist() == [4] * 10
    # An image's ink comes from its side: give the two sides different ink, and look for it.
    sources = np.zeros((230, 8, 8), np.uint8)
    sources[test] = 16
    for side, bright in ((train, False), (test, True)):
        images, _ = digits.render(sources, labels, side, 300, [0])
        centres = images[:, 12:20, 12:20].mean(axis=(1, 2, 3))
        assert np.all((centres > 120) == bright)


def test_digits_take_no_path():
    with pytest.raises(InputError, match="data.path: expected .*, got '/data'"):
        load(DataSection("digits", path="/data"))


# --- CIFAR-10: small editions, 50 and 20 images

COUNTS = {"train": 50, "test": 20}


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(cifar10, "IMAGES", COUNTS)


def content(count: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return images, np.tile(np.arange(10), count // 10)


def encode(image: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form)
    return buffer.getvalue()


def parquet(images, labels, form="PNG", names=("img", "label")) -> bytes:
    encoded = [{"bytes": encode(image, form), "path": None} for image in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = [pa.array(encoded, kind), pa.array(np.asarray(labels))]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, names=names), buffer)
    return buffer.getvalue()


def write_parquet(folder: Path, **changes: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in cifar10.PARQUET.items():
        (folder / name).write_bytes(changes.get(split) or parquet(*content(COUNTS[split])))
    return folder


def cifar(path, train=50, test=20, verify=False, seed=0) -> DataSection:
    return DataSection("cifar10", str(path), verify, train, test, seed)


def refusal(config: DataSection) -> str:
    with pytest.raises(InputError) as caught:
        load(config)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("data.")
    return message


@pytest.mark.parametrize("place", [".", "plain_text", "train-00000-of-00001.parquet"])
def test_parquet(few, tmp_path, place):
    write_parquet(tmp_path / "plain_text" if place == "plain_text" else tmp_path)
    dataset = load(cifar(tmp_path if place == "plain_text" else tmp_path / place))
    for split, count in COUNTS.items():
        images, labels = content(count)
        assert np.array_equal(getattr(dataset, f"{split}_images"), images)
        assert np.array_equal(getattr(dataset, f"{split}_labels"), labels)
    assert dataset.description == (
        "CIFAR-10 (Parquet of an unknown edition, PNG images): 50 training and 20 test images"
    )
    assert dataset.classes[3] == "cat"
    assert sorted(dataset.sources) == sorted(cifar10.PARQUET.values())


def test_what_is_not_known_is_refused_unless_asked_for(few, tmp_path, monkeypatch):
    write_parquet(tmp_path)
    message = refusal(cifar(tmp_path, verify=True))
    assert "train-00000-of-00001.parquet" in message and "data.verify=false" in message
    sums = tuple(
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in cifar10.PARQUET.values()
    )
    monkeypatch.setattr(cifar10, "EDITIONS", {sums: "CIFAR-10 (known)"})
    assert load(cifar(tmp_path, verify=True)).description.startswith("CIFAR-10 (known): 50 tr")
    test = tmp_path / "test-00000-of-00001.parquet"
    altered = bytearray(test.read_bytes())
    altered[len(altered) // 2] ^= 1
    test.write_bytes(altered)
    assert "test-00000-of-00001.parquet" in refusal(cifar(tmp_path, verify=True))


def damaged_parquets() -> dict[str, tuple[bytes, str]]:
    images, labels = content(20)
    sound = parquet(images, labels)
    uneven, beyond = labels.copy(), labels.copy()
    uneven[0], beyond[0] = 1, 10
    taller = np.zeros((20, 33, 32, 3), np.uint8)
    return {
        "cut": (sound[:-100], "cut"),
        "empty": (b"P", "cut"),
        "no parquet": (b"PAR1" + bytes(500) + b"PAR1", "cut"),
        "fewer rows": (parquet(images[:19], labels[:19]), "19 rows, not 20"),
        "other columns": (parquet(images, labels, names=("image", "label")), "columns"),
        "labels not whole": (parquet(images, labels + 0.5), "columns"),
        "label 10": (parquet(images, beyond), "labels from 0 to 10"),
        "uneven classes": (parquet(images, uneven), "unequal"),
        "other shape": (parquet(taller, labels), "row 0: an image of shape (33, 32, 3)"),
        "grey": (parquet(images[..., 0], labels), "row 0: an image of shape (32, 32, 1)"),
        "other format": (parquet(images, labels, "GIF"), "row 0: no image"),
        "cut image": (
            parquet(images, labels).replace(encode(images[3])[-40:], bytes(40)),
            "row 3: no image",
        ),
    }


@pytest.mark.parametrize("case", damaged_parquets())
def test_damaged_parquet(few, tmp_path, case):
    damaged, words = damaged_parquets()[case]
    write_parquet(tmp_path, test=damaged)
    assert words in refusal(cifar(tmp_path))


def test_missing_files_are_named(few, tmp_path):
    assert "cifar-10-binary.tar.gz" in refusal(cifar(tmp_path / "nowhere"))
    assert "or such a file" in refusal(cifar(__file__))
    write_parquet(tmp_path)
    (tmp_path / cifar10.PARQUET["test"]).unlink()
    assert "that also has test-00000-of-00001.parquet" in refusal(cifar(tmp_path))


def test_too_many_images_and_too_large_files(few, tmp_path, monkeypatch):
    assert refusal(cifar(tmp_path, train=51)) == (
        "data.train_images: expected at most 50, all of them, got 51"
    )
    write_parquet(tmp_path)
    monkeypatch.setattr(cifar10, "LARGEST_FILE", 1000)
    assert "at most 1,000 bytes" in refusal(cifar(tmp_path))


def test_fewer_images_are_a_balanced_seeded_choice(few, tmp_path):
    write_parquet(tmp_path)
    whole, some = load(cifar(tmp_path)), load(cifar(tmp_path, train=34, test=10))
    assert np.bincount(some.test_labels).tolist() == [1] * 10
    assert set(np.bincount(some.train_labels)) == {3, 4}
    places = {image.tobytes(): i for i, image in enumerate(whole.train_images)}
    chosen = [places[image.tobytes()] for image in some.train_images]
    assert len(set(chosen)) == 34
    assert np.array_equal(whole.train_labels[chosen], some.train_labels)
    fewer = load(cifar(tmp_path, train=20, test=10))
    assert np.array_equal(fewer.train_images, some.train_images[:20])
    other = load(cifar(tmp_path, train=34, test=10, seed=1))
    assert not np.array_equal(other.train_images, some.train_images)
    mean, std = pixel_statistics(some.train_images)
    assert np.array_equal(mean, some.mean) and np.array_equal(std, some.std)


# --- CIFAR-10: the binary archive, ten records a file

FILES = [f"cifar-10-batches-bin/{name}" for name in _archive.FILES]


@pytest.fixture
def tens(monkeypatch):
    monkeypatch.setattr(cifar10, "IMAGES", {"train": 50, "test": 10})
    monkeypatch.setattr(_archive, "RECORDS", 10)


def batches() -> list[bytes]:
    images, labels = content(60)
    records = np.concatenate(
        [labels[:, None].astype(np.uint8), images.transpose(0, 3, 1, 2).reshape(60, -1)], axis=1
    )
    return [records[start : start + 10].tobytes() for start in range(0, 60, 10)]


def member(name: str, data: bytes = b"", **attributes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def whole_archive() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        member("cifar-10-batches-bin", type=tarfile.DIRTYPE),
        *(member(name, data) for name, data in zip(FILES, batches(), strict=True)),
        member("cifar-10-batches-bin/readme.html", b"<html>"),
        member("cifar-10-batches-bin/batches.meta.txt", b"airplane"),
    ]


def pack(members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), 1)


@pytest.mark.parametrize("kind", ["folder", "file", "extracted", "extracted folder", "order"])
def test_binary_archive(tens, tmp_path, kind):
    if kind.startswith("extracted"):
        for name, data in zip(FILES, batches(), strict=True):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
    else:
        members = whole_archive()
        (tmp_path / cifar10.ARCHIVE).write_bytes(pack(members[:: -1 if kind == "order" else 1]))
    places = {"file": cifar10.ARCHIVE, "extracted folder": "cifar-10-batches-bin"}
    dataset = load(cifar(tmp_path / places.get(kind, "."), test=10))
    images, labels = content(60)
    assert np.array_equal(dataset.train_images, images[:50])
    assert np.array_equal(dataset.test_images, images[50:])
    assert np.array_equal(dataset.train_labels, labels[:50])
    assert "unknown binary archive" in dataset.description or kind.startswith("extracted")


def hostile_members() -> dict[str, list]:
    good, data = whole_archive(), batches()[5]
    last = FILES[5]
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "30730"}
    return {
        "symbolic link": [*good[:6], member(last, type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        "hard link": [*good[:6], member(last, type=tarfile.LNKTYPE, linkname=FILES[0])],
        "device": [*good[:6], member(last, type=tarfile.CHRTYPE, devmajor=1, devminor=5)],
        "pipe": [*good[:6], member(last, type=tarfile.FIFOTYPE)],
        "sparse": [*good[:6], member(last, b"0\n" + bytes(510), pax_headers=sparse)],
        "folder by a file's name": [*good[:6], member(last, type=tarfile.DIRTYPE)],
        "too short": [*good[:6], member(last, data[:-1])],
        "too long": [*good[:6], member(last, data + b"0")],
        "missing": good[:6],
    }


@pytest.mark.parametrize("case", hostile_members())
def test_hostile_archive(tens, tmp_path, case):
    archive = tmp_path / cifar10.ARCHIVE
    archive.write_bytes(pack(hostile_members()[case]))
    assert cifar10.ARCHIVE in refusal(cifar(tmp_path, test=10))
    assert list(tmp_path.iterdir()) == [archive]


def test_what_else_an_archive_has_is_neither_read_nor_written(tens, tmp_path):
    archive = tmp_path / cifar10.ARCHIVE
    upwards = member("cifar-10-batches-bin/../../x", b"x")
    archive.write_bytes(pack([*whole_archive(), member("/etc/cron.d/x", b"x"), upwards]))
    assert len(load(cifar(tmp_path, test=10)).train_labels) == 50
    assert list(tmp_path.iterdir()) == [archive]


def test_cut_and_altered_archives(tens, tmp_path):
    archive = tmp_path / cifar10.ARCHIVE
    sound = pack(whole_archive())
    places = np.linspace(0, len(sound) - 1, 40).astype(int)
    altered = [
        sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :] for place in places[2:]
    ]
    for damaged in [*(sound[:place] for place in places), *altered]:
        archive.write_bytes(damaged)
        assert cifar10.ARCHIVE in refusal(cifar(tmp_path, test=10))


def test_extracted_file_of_another_length(tens, tmp_path):
    for name, data in zip(_archive.FILES, batches(), strict=True):
        (tmp_path / name).write_bytes(data[:-1])
    assert "data_batch_1.bin has 30729 bytes, not 30730" in refusal(cifar(tmp_path, test=10))


def test_without_a_path_the_archive_is_downloaded(tens, tmp_path, monkeypatch):
    calls = []

    def fetch(url, path, sha256):
        calls.append((url, str(path), sha256))
        archive = tmp_path / path.name
        archive.write_bytes(pack(whole_archive()))
        return archive

    monkeypatch.setattr(_download, "fetch", fetch)
    config = dataclasses.replace(cifar("", test=10), path=None)
    assert len(load(config).train_labels) == 50
    assert calls == [
        (
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "data/downloads/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        )
    ]


def test_an_image_is_never_larger_than_it_says():
    with pytest.raises(ValueError, match="shape"):  # refused before its pixels are decoded
        _parquet.decode(encode(np.zeros((20_000, 2, 3), np.uint8)), (32, 32, 3))
    with pytest.raises(ValueError, match="no image"):
        _parquet.decode(None, (32, 32, 3))


# --- CIFAR-10: the local copy


@pytest.mark.slow(5)
@pytest.mark.skipif(not SHARED.is_dir(), reason="the local copy of CIFAR-10 is not here")
def test_local_copy(tmp_path):
    dataset = load(DataSection("cifar10", str(SHARED), train_images=50_000, test_images=10_000))
    np.testing.assert_allclose(dataset.mean, (0.4913, 0.4821, 0.4465), atol=5.1e-5)
    np.testing.assert_allclose(dataset.std, (0.2452, 0.2428, 0.2606), atol=5.1e-5)
    assert np.bincount(dataset.train_labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test_labels).tolist() == [1000] * 10
    assert "JPEG" in dataset.description and "shuffled" in dataset.description
    for name in cifar10.PARQUET.values():
        (tmp_path / name).write_bytes((SHARED / name).read_bytes())
    with open(tmp_path / name, "r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)[0]
        file.seek(1_000_000)
        file.write(bytes([byte ^ 1]))
    assert name in refusal(DataSection("cifar10", str(tmp_path)))


# --- the data stage


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(data=DataSection("digits", train_images=100, test_images=20))
    monkeypatch.setattr(configuration, "load", lambda: config)
    return config


def test_data_stage(workplace):
    stage.main([])
    folder = Path("data/quick")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(files) == ["dataset.json", "dataset.safetensors", "samples.png"]
    dataset, description = (
        open_dataset(folder / "dataset.safetensors"),
        json.loads(files["dataset.json"]),
    )
    assert description["name"] == "digits" and description["digest"] == dataset.digest
    assert description["images"] == {"train": 100, "test": 20}
    assert description["images_by_class"]["test"] == {str(digit): 2 for digit in range(10)}
    assert description["mean"] == dataset.mean.tolist()
    assert description["description"] == dataset.description
    with Image.open(folder / "samples.png") as picture:
        assert picture.format == "PNG" and picture.width > 600 and not picture.info.get("Software")
    stage.main([])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


@pytest.mark.parametrize("failing", ["data", "picture", "params"])
def test_data_stage_writes_nothing_when_it_fails(workplace, monkeypatch, capsys, failing):
    if failing == "data":
        workplace.data = DataSection("cifar10", "nowhere", True, 1000, 100)
    else:

        def fail(*arguments):
            raise InputError("key", "value", "another")

        monkeypatch.setattr(
            *{"picture": (stage, "picture"), "params": (configuration, "load")}[failing], fail
        )
    with pytest.raises(SystemExit) as caught:
        stage.main([])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and error.startswith("error: ")
    assert os.listdir() == []


def test_mosaic_has_a_row_for_each_class():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 3, 3), np.uint8)
    picture = samples.mosaic(images, np.array([1, 0, 1, 1, 0]), classes=3, columns=2)
    pitch = 3 + samples.GAP
    assert picture.shape == (3 * pitch, 2 * pitch, 3) and picture.dtype == np.uint8
    # the first two images of each class, the third class has none: white
    assert picture[::pitch, ::pitch, 0].tolist() == [[1, 4], [0, 2], [255, 255]]
    assert picture[3, 0].tolist() == [255, 255, 255]  # between rows
