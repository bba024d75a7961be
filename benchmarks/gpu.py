"""``python benchmarks/gpu.py``: whole range tests on one GPU, ours and others', side by side.

Every contestant trains the same steps from the same weights on the same batches, SGD with momentum,
early stop off. Ours makes everything as it goes: weights, network, data on the device, the capture
of the graph. The others begin with a model, an optimiser and batches ready-made. A test's time is
from there to its last loss, read by the host, after a short one that does not count. In turns, in
one process. Losses are compared with ours: whose differ by more than rounding is told instead of
times, and does not run again.

Writes ``benchmarks/results/gpu.json`` and ``.md``. ``--device cpu`` rehearses it without a graph.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from case import Case, Notes  # noqa: E402
from contestants.pytorch import Criterion, Model  # noqa: E402
from machine import describe  # noqa: E402
from run import interval  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from lrrt.backends.torch import cuda  # noqa: E402
from lrrt.runs.execute import execute  # noqa: E402

# Relative, of each loss of a whole test: what rounding grows to in a hundred steps. TF32 keeps 10
# bits of a factor, bfloat16 7.
TOLERANCES = {"float32": 2e-3, "tfloat32": 2e-2, "bfloat16": 5e-2}


class Contest:
    """One size of range test on one device, and whoever runs it: each gives its losses."""

    def __init__(self, case: Case, device: str):
        self.case, self.device = case, device
        # For who validates; a rehearsal on the CPU would take hours.
        self.dataset = case.dataset(test_images=10_000 if device == "cuda" else 100)
        images, labels = case.batches()
        self.images = torch.tensor(images).permute(0, 3, 1, 2).contiguous()  # on the host
        self.labels = torch.tensor(labels)

    def ours(self, precision: str, **changes) -> list[float]:
        """A study's run on a GPU."""
        spec = replace(self.case.spec(self.dataset.digest), device="cuda", precision=precision)
        return execute(replace(spec, **changes), self.dataset).arrays["loss"].tolist()

    def validated(self, precision: str) -> list[float]:
        """The same with all test images validated after every step."""
        return self.ours(precision, validation="running")

    def eager(self, precision: str) -> list[float]:
        """The same without the graph: each operation launched from Python."""
        captured = cuda.ResidentSteps._capture
        cuda.ResidentSteps._capture = lambda steps: steps._step
        try:
            return self.ours(precision)
        finally:
            cuda.ResidentSteps._capture = captured

    def plain(self, precision: str, tuned: bool = False) -> list[float]:
        """The loop of the tutorials: each batch copied to the device, each loss read."""
        model, optimiser, criterion = self._parts(precision)
        batches = zip(*(t.split(self.case.batch) for t in self._data(tuned)), strict=True)
        if tuned:
            model = model.to(memory_format=torch.channels_last)
        for lr, (x, y) in zip(self.case.lrs, batches, strict=True):
            optimiser.param_groups[0]["lr"] = float(lr)
            optimiser.zero_grad()
            with self._autocast(precision):
                loss = criterion(model(x.to(self.device)), y.to(self.device))
            loss.backward()
            optimiser.step()
            if not tuned:
                loss.item()
        return [float(loss) for loss in criterion.notes.losses]

    def tuned(self, precision: str) -> list[float]:
        """That in channels-last memory, all batches on the device, losses read at the end."""
        return self.plain(precision, tuned=True)

    def torch_lr_finder(self, precision: str) -> list[float]:
        from torch_lr_finder import LRFinder

        model, optimiser, criterion = self._parts(precision)
        finder = LRFinder(model, optimiser, criterion, device=self.device)
        loader = DataLoader(TensorDataset(self.images, self.labels), batch_size=self.case.batch)
        finder.range_test(
            loader,
            end_lr=float(self.case.lrs[-1]),
            num_iter=self.case.steps,
            smooth_f=0,
            diverge_th=1e9,
        )
        return [float(loss) for loss in criterion.notes.losses]

    def _parts(self, precision: str):
        if self.device == "cuda":
            torch.backends.cudnn.deterministic = False  # as PyTorch comes
            torch.backends.cudnn.allow_tf32 = precision == "tfloat32"
        model = Model(self.case).to(self.device)
        optimiser = torch.optim.SGD(model.parameters(), lr=float(self.case.lrs[0]), momentum=0.9)
        return model, optimiser, Criterion(Notes(), lambda: optimiser.param_groups[0]["lr"])

    def _data(self, tuned: bool) -> tuple[torch.Tensor, torch.Tensor]:
        if not tuned:
            return self.images, self.labels
        images = self.images.to(self.device).contiguous(memory_format=torch.channels_last)
        return images, self.labels.to(self.device)

    def _autocast(self, precision: str):
        enabled = precision == "bfloat16"
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=enabled)


CONTESTANTS = {
    "ours": "ours: data on the device, CUDA graph",
    "validated": "ours, validated at every step",
    "eager": "ours without the graph",
    "tuned": "plain loop, channels-last, batches on the device",
    "plain": "plain loop",
    "torch_lr_finder": "torch-lr-finder",
}


def run(case: Case, device: str, precision: str, names: list[str], rounds: int) -> dict:
    """Seconds of each round by contestant, and their ratios to ours."""
    contest, warm_up = Contest(case, device), Contest(replace(case, steps=4), device)
    results = {name: {"seconds": []} for name in names}
    for name in names:
        getattr(warm_up, name)(precision)
    reference = None
    for turn in range(rounds):
        order = names if turn == 0 else names[turn % len(names) :] + names[: turn % len(names)]
        for name in order:
            if "problem" in results[name]:
                continue
            started = time.perf_counter()
            losses = getattr(contest, name)(precision)
            seconds = time.perf_counter() - started
            reference = losses if reference is None else reference
            difference = float(np.max(np.abs(np.array(losses) / np.array(reference) - 1)))
            if not difference <= TOLERANCES[precision]:
                results[name]["problem"] = f"losses differ by up to {difference:.2g}"
            results[name]["seconds"].append(seconds)
            results[name]["difference"] = difference
        print(case.batch, precision, {n: r["seconds"][-1:] for n, r in results.items()}, flush=True)
    own = np.array(results[names[0]]["seconds"])
    for name in names[1:]:
        if "problem" not in results[name]:
            results[name]["ratio"] = interval(np.array(results[name]["seconds"]) / own)
    return results


def table(records: list[dict]) -> str:
    lines = [
        "| network, batch, steps | precision | contestant | seconds a test | ours is faster by "
        "(95 %) | largest difference of a loss |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for record in records:
        size = "ResNet-{depth}, {batch}, {steps}".format(**record)
        for name, result in record["results"].items():
            start = f"| {size} | {record['precision']} | {CONTESTANTS[name]} |"
            if "problem" in result:
                lines.append(f"{start} {result['problem']} | | |")
                continue
            ratio = ""
            if "ratio" in result:
                known = len(result["seconds"]) > 1  # else there is no interval
                ratio = ("{:.2f} ({:.2f}–{:.2f})" if known else "{:.2f}").format(*result["ratio"])
            seconds, difference = np.median(result["seconds"]), result["difference"]
            lines.append(f"{start} {seconds:.2f} | {ratio} | {difference:.1e} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--cases",
        nargs="+",
        metavar="DEPTH,BATCH,STEPS,PRECISION",
        default=[
            "56,512,98,tfloat32",
            "56,512,98,bfloat16",
            "20,128,98,tfloat32",
            "20,128,98,float32",
        ],
    )
    parser.add_argument("--output", type=Path, default=HERE / "results" / "gpu")
    options = parser.parse_args()
    if options.device == "cpu":
        engine = cuda.DeviceNetwork
        cuda.build = lambda nodes, protocol, weights, dtype, _: engine(
            nodes, protocol, weights, dtype, torch.device("cpu")
        )
    elif not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here; --device cpu rehearses the benchmark")
    machine = describe()
    if options.device == "cuda":
        machine |= {
            "gpu": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    records = []
    for each in options.cases:
        *size, precision = each.split(",")
        depth, batch, steps = map(int, size)
        names = list(CONTESTANTS)
        if precision == "bfloat16":
            names.remove("torch_lr_finder")  # its mixed precision is another: float16, scaled
        case = Case(depth, batch, steps, "torch")
        results = run(case, options.device, precision, names, options.rounds)
        record = dict(depth=depth, batch=batch, steps=steps, precision=precision)
        records.append(record | {"results": results})
    written = {"machine": machine, "rounds": options.rounds, "records": records}
    options.output.with_suffix(".json").write_text(json.dumps(written, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(table(records))
    print(table(records))


if __name__ == "__main__":
    main()
