"""Runs live_keras.py with pytest in a process where Keras and TensorFlow are alone."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.slow(40)
@pytest.mark.skipif(not find_spec("tensorflow"), reason="needs TensorFlow")
def test_live_keras_models():
    alone = ["-q", "-p", "no:cacheprovider", "--noconftest"]  # the study's packages may be missing
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *alone, "live_keras.py"],
        cwd=Path(__file__).parent,
        env=os.environ | {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]


@pytest.mark.slow(8)
@pytest.mark.parametrize(("backend", "package"), [("jax", "jax"), ("torch", "torch")])
def test_other_backends_of_keras(backend, package):
    if not find_spec("keras") or not find_spec(package):
        pytest.skip(f"needs Keras and {package}")
    ran = subprocess.run(
        [sys.executable, "live_keras_backends.py"],
        cwd=Path(__file__).parent,
        env=os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
