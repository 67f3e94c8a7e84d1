# Everything is set up on first use: a virtual environment with pinned packages, and pgvae in it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo

SOURCES := $(wildcard csrc/*.* csrc/cpu/* csrc/cuda/*)

.PHONY: setup demo test test-slow lint docs clean
setup: $(READY)

# torch first, so that the native ops are built with its headers and not with a second copy's.
$(READY): pyproject.toml setup.py $(wildcard requirements/*.txt) $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements/constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements/constraints.txt -e ".[demo,dev,eval,explore,export,hub,report,sources,turbo,video]"
	touch $@

# Prepare cartoon faces, grow 4 -> 32 px, and print the paths of the pictures.
demo: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" DEMO="$(DEMO)" bash demo.sh

# The style checks, the examples in docstrings, the fast tests: under ten minutes.
test: $(READY) lint
	$(BIN)/python -m pytest --doctest-modules pgvae -q
	$(BIN)/python -m pytest -m "not slow" -n 2 -q

# All nine stages, kills, long resumes.
test-slow: $(READY)
	$(BIN)/python -m pytest -m slow -n 2 -q

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every public name with its docstring, on one page: docs/reference.html.
docs: $(READY)
	$(BIN)/python docs/reference.py

clean:
	rm -rf $(VENV) $(DEMO) build pgvae/ops/lib *.egg-info
