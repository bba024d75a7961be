"""Kill the study at random moments and at each file operation; are its outputs ever others?"""

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lrrt.repair_dvc import repair
from reliability import workplace
from reliability.forks import preload

DVC = [str(Path(sys.executable).with_name("dvc")), "repro"]


class Wrong(AssertionError):
    """An output that differs from the undisturbed one's."""


def reference(
    folder: Path, backend: str, stages: tuple[str, ...] = workplace.ALL_STAGES, fork: bool = False
) -> tuple[dict[str, str], dict[str, float]]:
    """The outputs of an undisturbed study, and the seconds that each stage took; ``fork``: see
    :mod:`.forks`."""
    workplace.make(folder, backend)
    commands = workplace.commands()
    seconds = {stage: workplace.run(commands[stage], folder, fork) for stage in stages}
    return workplace.outputs(folder), seconds


def check(folder: Path, expected: dict[str, str], *, complete: bool = False) -> None:
    """Raise :class:`Wrong` unless every output is that of the undisturbed study, or absent.

    With ``complete`` none may be absent, and nothing else may lie beside them. Files that begin
    with a dot, which a killed process may leave, count as absent.
    """
    found = workplace.outputs(folder)
    for path, digest in found.items():
        hidden = any(part.startswith(".") for part in Path(path).parts)
        if (complete or not hidden) and expected.get(path) != digest:
            raise Wrong(f"{path} is not what it was undisturbed")
    if complete and found.keys() != expected.keys():
        raise Wrong(f"{sorted(expected.keys() - found.keys())} are missing")


def kill_stages(
    backend: str,
    kills: int,
    *,
    seed: int = 0,
    per_stage: int = 3,
    fork: bool = False,
    stages: tuple[str, ...] = workplace.ALL_STAGES,
    say: Callable[[str], None] = lambda line: None,
) -> Counter[str]:
    """Run the study again and again, each stage killed up to ``per_stage`` times on the way, until
    there were so many ``kills``; how many each stage had, ``studies`` how often it was completed.

    A moment is drawn uniformly over the time that the stage takes undisturbed or, where it had come
    to its end before that moment, over what it took then. After each kill the stage is started
    again where it was left; what there is of its outputs must be as undisturbed, and once all
    stages are through, all outputs. With ``fork`` the commands themselves, undisturbed, must give
    the same.
    """
    if fork:
        preload(backend)
    draw, tally = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory(prefix="reliability-") as temporary:
        expected, seconds = reference(Path(temporary) / "reference", backend, stages, fork)
        if fork and reference(Path(temporary) / "commands", backend, stages)[0] != expected:
            raise Wrong("the commands give other outputs than their forks")
        commands = workplace.commands()
        while (left := kills + tally["studies"] - sum(tally.values())) > 0:
            folder = Path(temporary) / "study"
            workplace.make(folder, backend)
            for stage in stages:
                wanted, longest = tally[stage] + min(per_stage, left), seconds[stage]
                for _ in range(2 * per_stage):
                    began = time.monotonic()
                    if tally[stage] == wanted:
                        break
                    if kill_once(commands[stage], folder, draw.uniform(0, longest), fork):
                        tally[stage] += 1
                        left -= 1
                        check(folder, expected)
                    else:
                        longest = time.monotonic() - began
                workplace.run(commands[stage], folder, fork)
            check(folder, expected, complete=True)
            tally["studies"] += 1
            say(f"{backend}: {sum(tally.values()) - tally['studies']} kills, {dict(tally)}")
            shutil.rmtree(folder)
    return tally


def kill_once(command: list[str], folder: Path, delay: float, fork: bool = False) -> bool:
    """Start ``command``, kill its tree after ``delay`` seconds; False if it had ended by itself."""
    process = workplace.start(command, folder, fork)
    deadline = time.monotonic() + delay
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    ended = process.poll()
    error = workplace.kill(process)
    if ended:
        raise RuntimeError(f"{command} ended with status {ended}: {error}")
    return ended is None


EACH = 12  # operations; of more, a kill at every further quarter


def crash_at_operations(
    backend: str = "linear",
    fork: bool = False,
    stages: tuple[str, ...] = workplace.ALL_STAGES,
    say: Callable[[str], None] = lambda line: None,
) -> Counter[str]:
    """Kill each stage's tree at its first sync, rename or removal of a file (as each process counts
    its own), then at its second, and so on to the twelfth, and from then on at every further
    quarter, each time in a study without that stage's outputs and runs; how many kills.
    """
    tally = Counter()
    with tempfile.TemporaryDirectory(prefix="reliability-") as temporary:
        expected, _ = reference(Path(temporary) / "reference", backend, fork=fork)
        before = Path(temporary) / "before"
        workplace.make(before, backend)
        for stage, command in workplace.commands().items():
            survived, at = stage not in stages, 1
            while not survived:
                folder = Path(temporary) / "study"
                shutil.copytree(before, folder)
                process = workplace.start(command, folder, fork, CRASH_AT=str(at))
                at += 1 if at < EACH else at // 4
                survived = process.wait() == 0
                workplace.kill(process)
                if not survived:
                    tally[stage] += 1
                    check(folder, expected)
                workplace.run(command, folder, fork)
                left = {k: v for k, v in expected.items() if (folder / k).exists()}
                check(folder, left, complete=True)
                shutil.rmtree(folder)
            workplace.run(command, before, fork)
            say(f"{stage}: killed at {tally[stage]} operations")
        check(before, expected, complete=True)
    return tally


def kill_dvc(
    backend: str, kills: int, *, seed: int = 0, say: Callable[[str], None] = lambda line: None
) -> Counter[str]:
    """Kill ``dvc repro`` and all it started at random moments, so many times, until it ends.

    Before each start, as in ``make study``, :mod:`lrrt.repair_dvc` sees to a file that DVC was
    writing; ``mended`` counts them.
    """
    draw, tally = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory(prefix="reliability-") as temporary:
        undisturbed, folder = Path(temporary) / "undisturbed", Path(temporary) / "study"
        workplace.make_repository(undisturbed, backend)
        seconds = workplace.run(DVC, undisturbed)
        expected = workplace.outputs(undisturbed)
        workplace.make_repository(folder, backend)
        while tally["repro"] < kills:
            tally["mended"] += len(repair(folder))
            if kill_once(DVC, folder, draw.uniform(0, seconds / 2)):
                tally["repro"] += 1
                check(folder, expected)
                say(f"dvc: {tally['repro']} kills")
            else:  # it is through: from the beginning
                check(folder, expected, complete=True)
                tally["studies"] += 1
                shutil.rmtree(folder)
                workplace.make_repository(folder, backend)
        tally["mended"] += len(repair(folder))
        workplace.run(DVC, folder)
        check(folder, expected, complete=True)
        tally["studies"] += 1
    return tally
