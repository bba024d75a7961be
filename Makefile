# One command to run the study, one to test: both install what they need into .venv first.
PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: study test quick install lock lint docs floors

study: install ## the study named in params.yaml, from data to report
	python -m lrrt.repair_dvc
	dvc repro --quiet
	@sed -n 's|^  name: \(.*\)|Open reports/\1/report.html in a browser.|p; /^data:/q' params.yaml

# One process a core, at most four; the slowest files first (tests/conftest.py).
PYTEST := python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: install
	$(PYTEST)

quick: install ## the tests that are not marked slow
	$(PYTEST) -m "not slow"

install: .venv/.installed

.venv/.installed: constraints.txt pyproject.toml
	@echo "Installing into .venv: about 4 GB, minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[study,dev]'
	touch $@

lint: install
	ruff check .
	ruff format --check .

docs: install ## build/docs/index.html, offline; a warning is an error
	sphinx-build --quiet --fail-on-warning --keep-going docs build/docs

floors: ## the library's tests with the lowest versions that pyproject.toml declares; OPTIONS=--newest
	$(PYTHON) -m reliability.floors $(OPTIONS)

lock: install ## rewrite constraints.txt from .venv
	@pinned=$$($(BIN)/pip freeze --exclude-editable) && \
	  { sed -n '/^#/p' constraints.txt; echo "$$pinned" | sed 's/+cpu//'; } > constraints.new
	@mv constraints.new constraints.txt
