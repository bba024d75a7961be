"""Text that is generated, free of any licence: numbers and small stories, for the next character.

Sentences of a small grammar: sums and comparisons of numbers in words (whose right ending has to be
worked out), repetitions (whose ending has to be copied), stories of animals (whose nouns agree with
their verbs). All draws are of integers: the same seed gives the same text on every machine. The
test text has draws of its own.

An "image" is a window of ``TOKENS`` characters; its labels are the characters that follow each.
"""

import numpy as np

from lrrt.config import DataSection
from lrrt.datasets import Dataset
from lrrt.errors import InputError

GIVES = "tokens"
TOKENS = 64
CHARACTERS = tuple(" ,-.abcdefghiklmnopqrstuvwxyz\n")  # no word has a j

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
ONES = (ONES + " fifteen sixteen seventeen eighteen nineteen").split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ADJECTIVES = "old young red grey quiet hungry clever tired brave small tall shy".split()
ANIMALS = "fox owl hare crow otter badger wolf goose heron mole lynx toad".split()
PLURALS = {"fox": "foxes", "goose": "geese", "wolf": "wolves", "lynx": "lynxes"}
VERBS = "sleep run sing wait hunt swim dig listen dance rest climb hide".split()
PLACES = "river hill wood barn mill bridge meadow garden pond harbour quarry lane".split()
WORDS = (
    "lantern velvet marble copper ribbon saddle thunder cinder willow pepper anchor maple".split()
)


def number(value: int) -> str:
    """In words, from 0 to 199."""
    if value >= 100:
        rest = f" and {number(value - 100)}" if value > 100 else ""
        return "one hundred" + rest
    if value < 20:
        return ONES[value]
    tens, ones = divmod(value, 10)
    return TENS[tens - 2] + (f"-{ONES[ones]}" if ones else "")


def sentence(random: np.random.Generator) -> str:
    def one_of(words: list[str]) -> str:
        return words[random.integers(len(words))]

    kind = random.integers(5)
    if kind == 0:
        a, b = random.integers(100, size=2).tolist()
        return f"{number(a)} and {number(b)} make {number(a + b)}."
    if kind == 1:
        a, b = random.integers(200, size=2).tolist()
        relation = "less than" if a < b else "more than" if a > b else "the same as"
        return f"{number(a)} is {relation} {number(b)}."
    if kind == 2:
        words = " ".join(one_of(WORDS) for _ in range(2 + random.integers(3)))
        return f"say {words}, and again {words}."
    adjective, animal, verb, place = map(one_of, (ADJECTIVES, ANIMALS, VERBS, PLACES))
    if kind == 3:
        return f"the {adjective} {animal} {verb}s by the {place}."
    many = number(2 + int(random.integers(18)))
    plural = PLURALS.get(animal, f"{animal}s")
    return f"{many} {adjective} {plural} {verb} by the {place}."


def text(count: int, seed: list[int]) -> np.ndarray:
    """``count`` characters, uint8 indices into ``CHARACTERS``; fewer are the beginning of more."""
    random, index = np.random.default_rng(seed), {c: i for i, c in enumerate(CHARACTERS)}
    found: list[int] = []
    while len(found) < count:
        end = "\n" if random.integers(6) == 0 else " "
        found += [index[character] for character in sentence(random) + end]
    return np.array(found[:count], np.uint8)


def windows(count: int, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Windows side by side, and what follows each character: (count, TOKENS), uint8 and int64."""
    tokens = text(count * TOKENS + 1, seed)
    return tokens[:-1].reshape(count, TOKENS), tokens[1:].reshape(count, TOKENS).astype(np.int64)


def validate(config: DataSection) -> None:
    """Raise :class:`InputError` if there is a ``config.path``."""
    if config.path is not None:
        raise InputError("data.path", config.path, "null; the text is made without a file")


def load(config: DataSection) -> Dataset:
    """``config.train_images`` and ``config.test_images`` windows with ``config.seed``.

    Raises
    ------
    InputError
        If there is a ``config.path``.
    """
    validate(config)
    none = np.empty(0)
    return Dataset(
        *windows(config.train_images, [config.seed, 1]),
        *windows(config.test_images, [config.seed, 2]),
        none,
        none,
        CHARACTERS,
        f"Generated text of numbers and animals: {config.train_images:,} training windows of "
        f"{TOKENS} characters, {config.test_images:,} test windows",
    )
