"""Random streams by seed and purpose, so that one draw never shifts another."""

import hashlib

import numpy as np


def stream(seed: int, purpose: str) -> np.random.Generator:
    """A generator that depends on both: other purposes, or seeds, are independent of it."""
    digest = np.frombuffer(hashlib.sha256(purpose.encode()).digest(), dtype="<u4")
    key = tuple(int(word) for word in digest[:4])
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
