"""The page ``reports/reliability.md`` from what was measured."""

from collections import Counter

from reliability.workplace import ALL_STAGES as STAGES


def table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def kills(found: dict) -> str:
    tallies = [found[name] for name in ("linear", "torch")]
    total = sum(tally.get(stage, 0) for tally in tallies for stage in STAGES)
    rows = [
        [name, *(tally.get(stage, 0) for stage in STAGES), tally["studies"]]
        for name, tally in zip(("NumPy stand-in", "PyTorch"), tallies, strict=True)
    ]
    spared = [stage for stage in STAGES if not any(tally.get(stage) for tally in tallies)]
    return f"""\
**{total} kills survived.** SIGKILL to the whole process tree of a stage of a tiny study (with
validation and an oracle), at a moment drawn uniformly over the time that the stage takes (seed
{found["seed"]}). A stage is resumed and killed several times over. After each kill, whatever there
was of the outputs was compared bit for bit with an undisturbed run; then the same stage did the
rest; at the end of each study all outputs had the same bits and nothing else lay beside them. The
stages were forks of a process that had imported what they need; an undisturbed study by the
commands themselves had the same bits.

{table(["kills of", *STAGES, "studies completed"], rows)}
{f"**Not killed:** {', '.join(spared)}." if spared else "All stages were killed."} Without PyTorch,
`stability` only writes tables without rows.
"""


def operations(found: dict) -> str:
    killed = {stage: found.get(stage, 0) for stage in STAGES}
    return f"""\
**{sum(killed.values())} kills survived:** of each stage's process tree at its first, second, ...
twelfth sync, rename or removal of a file, and from then on at every further quarter of them,
checked as above.

{table(list(killed), [list(killed.values())])}"""


def dvc(found: dict) -> str:
    return f"""\
**{found["repro"]} kills survived** of `dvc repro` and all it had started, over {found["studies"]}
studies. {found["mended"]} of them found DVC writing its `dvc.lock` or `.dvc/tmp/rwlock`, which it
could not read any more: `make study` moves such a file aside. The next `dvc repro` went on every
time.
"""


def configuration(found: dict) -> str:
    tried = {name: count for name, count in found.items() if name != "keys"}
    return f"""\
**{sum(tried.values())} bad or odd configurations tried over {found["keys"]} keys.** Each was
refused in one line that names key, value and what is allowed, with nothing written, or can be run.

{
        table(
            ["cases", "number"],
            [
                ["wrong values of each key, by hand", found["wrong"]],
                ["impossible values and combinations, by hand", found["impossible"]],
                ["overrides that Hydra refuses, by hand", found["through Hydra"]],
                ["generated (Hypothesis), up to", found["generated"]],
            ],
        )
    }"""


def tests(found: dict, about: dict[str, str]) -> str:
    rows = []
    for name, one in found.items():
        skipped = sum(one["skipped"].values())
        purpose = about.get(name, "")
        rows.append([f"`{name}.py`", purpose, one["tests"] - skipped, one["failed"], skipped])
    reasons = Counter()
    for one in found.values():
        reasons.update(one["skipped"])
    passed = sum(row[2] - row[3] for row in rows)
    why = "".join(f"- skipped, {count}: {reason}\n" for reason, count in reasons.items())
    return f"""\
**{passed} tests passed, {sum(row[3] for row in rows)} failed.**

{table(["file", "of", "run", "failed", "skipped"], rows)}
{why}"""


def coverage(found: dict) -> str:
    share = 100 * found["branches_taken"] / found["branches"]
    missing = "".join(f"- `{name}`: {places}\n" for name, places in found["missing"].items())
    return f"""\
**{share:.1f} % of the branches of the core** ({found["branches_taken"]} of {found["branches"]})
and {found["lines_run"]} of its {found["lines"]} lines are run by its own tests.
{"Not taken (lines; branches from, to):" if missing else ""}

{missing}"""


def memory(found: dict) -> str:
    rows = [
        [name, one["runs"], *(f"{one[at]:.0f}" for at in ("first", "warm", "last"))]
        for name, one in found.items()
    ]
    return f"""\
Resident memory (MiB) of one worker process, runs one after another, each with new weights.

{table(["backend", "runs", "after the first", "after 20", "after the last"], rows)}"""


def packages(found: dict) -> str:
    kinds = Counter(kind for _, _, kind in found["licences"].values())
    rows = [
        [name, version, said]
        for name, (version, said, kind) in found["licences"].items()
        if kind in ("copyleft", "not stated")
    ]
    problems = "".join(f"- {line}\n" for line in found["problems"])
    return f"""\
{len(found["licences"])} packages are installed for the study and its tests. `pip check` and the
comparison with `constraints.txt` found {len(found["problems"])} problems.

{problems}
Licences by their metadata: {", ".join(f"{n} {kind}" for kind, n in kinds.most_common())}. All:
`python -m reliability.packages`. Those with a copyleft licence, or that state none:

{table(["package", "version", "licence"], rows)}
Known vulnerabilities are not looked up offline: `pip-audit -r constraints.txt` does it where there
is a network.
"""


SECTIONS = {
    "kills": ("Kills at random moments", kills),
    "operations": ("Kills at file operations", operations),
    "dvc": ("Kills of DVC", dvc),
    "configuration": ("Bad configuration", configuration),
    "tests": ("Faults injected, by test", tests),
    "coverage": ("Coverage of the core", coverage),
    "memory": ("Memory", memory),
    "packages": ("Packages", packages),
}


def page(record: dict, about: dict[str, str]) -> str:
    """Markdown of all that ``record`` has; ``about``: what each file of tests is for."""
    parts = ["# Reliability\n", "Measured and written by `python -m reliability`.\n"]
    for name, (title, write) in SECTIONS.items():
        if name not in record:
            continue
        one = record[name]
        figures = one["figures"]
        parts.append(f"## {title}\n")
        parts.append(write(figures, about) if name == "tests" else write(figures))
        used = ", ".join(f"{package} {version}" for package, version in one["versions"].items())
        parts.append(f"<sub>{one['date']}, {one['seconds']} s; {used}</sub>\n")
    return "\n".join(parts)
