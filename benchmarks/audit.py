"""An audit of ten runs: of an earlier commit, on one process, and on as many as help.

``python benchmarks/audit.py [CASE ...] [--before FOLDER] [--rounds N]``; FOLDER is a checkout of
the earlier commit. The contestants stand side by side in each round, in fresh processes, in turns;
the results of one process and of several must be equal to the bit. Wall-clock seconds, without the
imports; a ratio is a geometric mean over rounds with its 95 % interval. Writes
``results/audit.json``, where other cases stay, and prints a table.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from machine import describe  # noqa: E402

RESULTS = HERE / "results" / "audit.json"
RUNS, STEPS, BATCH = 10, 100, 64


def make_torch_mlp():
    from torch import nn, optim

    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
    model.append(nn.Linear(128, 10))
    return model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss()


def make_torch_cnn():
    from torch import nn, optim

    def block(inputs, outputs, stride=1):
        return [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(3, 32), *block(32, 64, 2), *block(64, 64), *block(64, 128, 2)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    return model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss()


def make_keras_mlp():
    import keras

    dense = keras.layers.Dense
    layers = [keras.Input((64,)), dense(128, "relu"), dense(128, "relu"), dense(10)]
    return _compiled(layers)


def make_keras_cnn():
    import keras

    layers = [keras.Input((16, 16, 3))]
    for width, stride in ((32, 1), (64, 2), (64, 1), (128, 2)):
        layers.append(keras.layers.Conv2D(width, 3, stride, "same"))
        layers += [keras.layers.BatchNormalization(), keras.layers.ReLU()]
    return _compiled([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)])


def _compiled(layers):
    import keras

    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    return model


def vectors():
    return _data((64,))


def images_first():
    return _data((3, 16, 16))


def images_last():
    return _data((16, 16, 3))


def _data(shape):
    x = np.random.default_rng(0).standard_normal((2048, *shape)).astype("float32")
    return {"data": (x, x.reshape(2048, -1).mean(1).argsort() % 10), "batch_size": BATCH}


CASES = {
    "torch MLP": (make_torch_mlp, vectors),
    "torch CNN": (make_torch_cnn, images_first),
    "keras MLP": (make_keras_mlp, vectors),
    "keras CNN": (make_keras_cnn, images_last),
}


def measure(case: str, runs: int, workers: str) -> dict:
    """In this process: seconds of an audit, its digest, peak memory of a process."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if case.startswith("torch"):
        import torch

        torch.ones(1).sum().item()
    else:
        import keras  # noqa: F401
    import lrrt
    import lrrt.finder.audit  # noqa: F401

    options = {"runs": runs, "steps": STEPS, "stop": None}
    if workers not in ("before", "default"):
        options["workers"] = int(workers)
    started = time.perf_counter()
    found = lrrt.audit(*CASES[case], **options)
    seconds = time.perf_counter() - started
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    losses = hashlib.sha256(b"".join(curve.loss.tobytes() for curve in found.curves))
    return {
        "seconds": seconds,
        "cpu": [used.ru_utime + used.ru_stime for used in usage],
        "peak_mib": [used.ru_maxrss / 1024 for used in usage],
        "digest": losses.hexdigest(),
    }


def in_fresh_process(folder: Path, *arguments: str) -> dict:
    command = [sys.executable, __file__, "--measure", *arguments]
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        case, runs, workers = options.measure
        print(json.dumps(measure(case, int(runs), workers)))
        return
    from run import interval, print_ratios

    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {case: {"rounds": [], "before": describe()} for case in options.cases}
    contestants = {"one process": (HERE.parent, str(RUNS), "1")}
    contestants["default"] = (HERE.parent, str(RUNS), "default")
    contestants["one run"] = (HERE.parent, "1", "1")
    if options.before is not None:
        contestants["before"] = (options.before.resolve(), str(RUNS), "before")
    for number in range(options.rounds):
        for case in options.cases:
            order = list(contestants)[:: 1 if number % 2 == 0 else -1]
            found = {
                name: in_fresh_process(contestants[name][0], case, *contestants[name][1:])
                for name in order
            }
            assert found["one process"]["digest"] == found["default"]["digest"]
            results[case]["rounds"].append(found)
            print(case, {k: round(v["seconds"], 2) for k, v in found.items()}, flush=True)
            for name in found.keys() - {"default", "one run"}:
                ratios = [
                    r[name]["seconds"] / r["default"]["seconds"] for r in results[case]["rounds"]
                ]
                results[case][f"{name}, against default"] = interval(np.array(ratios))
            peaks = [
                max(r["one process"]["peak_mib"][0], max(r["default"]["peak_mib"]))
                / r["one run"]["peak_mib"][0]
                for r in results[case]["rounds"]
            ]
            results[case]["peak memory of a process, of one run's"] = max(peaks)
            results[case]["after"] = describe()
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print_ratios({case: results[case] for case in options.cases})


if __name__ == "__main__":
    main()
