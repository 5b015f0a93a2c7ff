# `make train` and `make test`: each sets up a virtual environment by itself and does its job.
# `make test PYTHON=python3.13` does it on another interpreter, in an environment of its own.

PYTHON ?= python3
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin

.PHONY: train test lint clean

train: $(VENV)/.train
	$(BIN)/python -m train --config configs/digits_gc.py --workdir runs/digits_gc

test: $(VENV)/.test lint
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf .venv .venv-*
