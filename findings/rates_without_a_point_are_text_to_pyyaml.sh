#!/usr/bin/env bash
# PyYAML 6.0.3 beside OmegaConf 2.3.1 (Hydra) and ruamel.yaml 0.19.1 (what DVC reads params.yaml with). A learning
# rate written 1e-7, as PyTorch and papers write it, is a number to DVC and to Hydra and the text "1e-7" to
# yaml.safe_load: `dvc params diff` shows a number, and a stage that reads the same file with PyYAML gets a string
# (float() takes it, a comparison or a product does not). 1.0e-7 is a number to all three.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyyaml==6.0.3 omegaconf==2.3.1 ruamel.yaml==0.19.1
"$folder/venv/bin/python" - <<'PY'
import io
from importlib.metadata import version

import yaml
from omegaconf import OmegaConf
from ruamel.yaml import YAML

text = "start: 1e-7\nwith_point: 1.0e-7\n"
found = {
    "PyYAML": yaml.safe_load(text),
    "OmegaConf": OmegaConf.to_container(OmegaConf.create(text)),
    "ruamel.yaml": dict(YAML(typ="safe").load(io.StringIO(text))),
}
for name, values in found.items():
    print(f"{name} {version(name)}: {values}")
assert found["PyYAML"] == {"start": "1e-7", "with_point": 1e-7}
assert found["OmegaConf"] == found["ruamel.yaml"] == {"start": 1e-7, "with_point": 1e-7}
PY
