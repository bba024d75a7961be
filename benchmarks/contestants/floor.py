"""The convolution kernels alone: what no exact training step can go below on this machine."""

import time
from collections import Counter

import torch
from case import Case, Notes

REPEATS = 3
BATCHES = (32, 128, 512)  # images at once; the best counts


def kernels(case: Case, notes: Notes) -> None:
    """Notes seconds a step, as the loss: forward and both gradients of every convolution.

    Channels-last, one thread, the best of several repeats and of several numbers of images at
    once.
    """
    torch.set_num_threads(1)
    sides, shapes = {"input": 32}, Counter()
    for node in case.nodes:
        side = sides[node.inputs[0]] if node.inputs[0] in sides else 1
        sides[node.name] = -(-side // node.stride) if node.operation == "conv" else side
        if node.operation == "conv":
            first = node.inputs[0] == "input"
            shapes[node.in_channels, node.channels, node.kernel, node.stride, side, first] += 1
    total = sum(
        count * min(_seconds_per_image(*shape, batch) for batch in BATCHES)
        for shape, count in shapes.items()
    )
    notes.note(total * case.batch, 0.0)


def _seconds_per_image(inputs, outputs, kernel, stride, side, first, batch) -> float:
    layout = dict(memory_format=torch.channels_last)
    x = torch.randn(batch, inputs, side, side).contiguous(**layout)
    w = torch.randn(outputs, inputs, kernel, kernel).contiguous(**layout)
    options = ([stride] * 2, [(kernel - 1) // 2] * 2, [1, 1])
    y = torch.conv2d(x, w, None, *options)
    best = float("inf")
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        torch.conv2d(x, w, None, *options)
        torch.ops.aten.convolution_backward(
            y, x, w, None, *options, False, [0, 0], 1, [not first, True, False]
        )
        best = min(best, time.perf_counter() - started)
    return best / batch
