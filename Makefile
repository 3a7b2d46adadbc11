# Each target sets everything up by itself, in .venv beside this file: only Python 3.11+ with pip is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test test-all check format bench clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

# One environment for everything: made again only when the dependencies change.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vitrail needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,dicom,fetch,tables,dev]'
	@touch $@

demo: .venv/ready ## draw a phantom data set with planted faults and run the whole path on it
	$(BIN)/vitrail demo

test: .venv/ready ## the test suite
	$(BIN)/python -m pytest -m 'not slow' -n auto --dist loadfile

test-all: .venv/ready ## the slow tests too
	$(BIN)/python -m pytest

check: .venv/ready ## style, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready ## put the code into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready ## speed against bare ONNX Runtime (WEIGHTS=folder in timm local-dir format, DATA=folder of images)
	@test -n "$(WEIGHTS)" || { echo "make bench WEIGHTS=FOLDER [DATA=FOLDER]: WEIGHTS names a backbone in timm local-dir format"; exit 2; }
	$(BIN)/python benchmarks/probe.py --weights "$(WEIGHTS)" $(if $(DATA),--data "$(DATA)")

clean: ## remove the environment and what tools left (runs are kept)
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build src/*.egg-info
