"""With this folder on PYTHONPATH, every process of Python finds the backends beside this file."""

from pathlib import Path

import lrrt.backends

lrrt.backends.__path__.append(str(Path(__file__).with_name("backends")))
