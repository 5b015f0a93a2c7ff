# Each target sets up a virtual environment by itself and does its job:
#   make train   train on handwritten digits with GC
#   make check   linters, types and the fast tests
#   make test    linters, types and all tests
#   make lint    linters and types
#   make docs    build the documentation site in site/, notebooks included
#   make data NAME=cifar100   prepare a TFDS data set, in an environment that holds TensorFlow
#   make public-models   infer the axes of published models, in an environment that holds them
#   make clean   remove the environments
# `make test PYTHON=python3.13` uses another interpreter, in an environment of its own.

PYTHON ?= python3

ifneq ($(MAKECMDGOALS),clean)
# The version and the path of an interpreter: for an environment, of the one that it was made with.
IDENTIFY := import os, sys; \
  print("%d.%d " % sys.version_info[:2] + os.path.realpath(getattr(sys, "_base_executable", "")))
INTERPRETER := $(shell $(PYTHON) -c '$(IDENTIFY)' 2>/dev/null)
VERSION := $(firstword $(INTERPRETER))
ifeq ($(VERSION),)
$(error $(PYTHON) does not run; name a Python 3.11 or later: make PYTHON=/path/to/python3.11)
endif
ifneq ($(filter 2.% 3.0 3.1 3.2 3.3 3.4 3.5 3.6 3.7 3.8 3.9 3.10,$(VERSION)),)
$(error $(PYTHON) is Python $(VERSION); 3.11 or later is needed: make PYTHON=/path/to/python3.11)
endif
endif

VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(VERSION))
BIN := $(VENV)/bin
# An environment of another interpreter, or of one that is gone, is made again.
ifneq ($(shell $(BIN)/python -c '$(IDENTIFY)' 2>/dev/null),$(INTERPRETER))
STALE := stale
endif

.PHONY: train check test lint docs data public-models clean stale

train: $(VENV)/.train
	$(BIN)/python -m train --config configs/digits_gc.py --workdir runs/digits_gc

check: lint
	$(BIN)/python -m pytest -m "not slow"

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYRIGHT)
	$(PYRIGHT) --verifytypes optax_gc --ignoreexternal >$(VENV)/types.txt \
	  || { cat $(VENV)/types.txt; exit 1; }

docs: $(VENV)/.docs
	PATH="$(abspath $(BIN)):$$PATH" JAX_PLATFORMS=cpu $(BIN)/mkdocs build --strict --quiet

# pyright looks for the installed packages beside the first `python` in the PATH.
PYRIGHT = PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pyright

# In the environment of the data there are no JAX and none of the trainer's other libraries.
export NAME TFDS_DATA_DIR
data: .venv-data/.data
	.venv-data/bin/python -m train.prepare

.venv-data/.data: pyproject.toml
	rm -rf .venv-data
	$(PYTHON) -m venv .venv-data
	.venv-data/bin/python -m pip install --quiet --disable-pip-version-check tensorflow \
	  'tensorflow-datasets>=4.9.9' array-record importlib_resources
	touch $@

public-models: .venv-models/.models
	.venv-models/bin/python -m public_models --page docs/library/models.md

.venv-models/.models: pyproject.toml public_models/requirements.txt
	rm -rf .venv-models
	$(PYTHON) -m venv .venv-models
	.venv-models/bin/python -m pip install --quiet --disable-pip-version-check --editable . \
	  --requirement public_models/requirements.txt
	touch $@

$(VENV)/.%: pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

$(BIN)/python: $(STALE)
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf .venv .venv-* site .cache
