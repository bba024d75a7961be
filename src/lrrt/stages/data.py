"""``python -m lrrt.stages.data``: the study's images, what they are, and a picture of them."""

import argparse
import json

import numpy as np

from lrrt import config as configuration
from lrrt.datasets import Dataset, load, save
from lrrt.errors import one_line_errors
from lrrt.files import write_whole
from lrrt.progress import announce
from lrrt.report.figures.samples import picture
from lrrt.runs import paths


def describe(dataset: Dataset) -> dict:
    """What ``dataset.json`` says; equal data sets give equal files."""

    def counts(labels: np.ndarray) -> dict[str, int]:
        per_class = np.bincount(labels.ravel(), minlength=len(dataset.classes)).tolist()
        return dict(zip(dataset.classes, per_class, strict=True))

    return {
        "description": dataset.description,
        "digest": dataset.digest,
        "images": {"train": len(dataset.train_labels), "test": len(dataset.test_labels)},
        "images_by_class": {
            "train": counts(dataset.train_labels),
            "test": counts(dataset.test_labels),
        },
        "image_shape": list(dataset.train_images.shape[1:]),
        "classes": list(dataset.classes),
        "mean": dataset.mean.tolist(),
        "std": dataset.std.tolist(),
        "sources": dataset.sources,
    }


def main(arguments: list[str] | None = None) -> None:
    """Build the data set that ``params.yaml`` names; write its three files when all are ready."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    announce("data")
    with one_line_errors():
        config = configuration.load()
        dataset = load(config.data)
        description = {"name": config.data.name, **describe(dataset)}
        samples = picture(dataset)
        folder = paths.folder(config)
        save(dataset, paths.dataset_path(config))
        write_whole(folder / "dataset.json", (json.dumps(description, indent=2) + "\n").encode())
        write_whole(folder / "samples.png", samples)


if __name__ == "__main__":
    main()
