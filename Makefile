PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: sweep test lint clean

# The main job on the simulated bench.
sweep: $(VENV)/.installed
	$(BIN)/python -m experiments.power_sweep

# Lint, types, import contracts, then every test; sweeps mostly wait, so three files at a time, two processors or not.
# Programs that tests start find what Python made of their modules, even where it is told to keep nothing.
test: lint
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.installed: pyproject.toml constraints.txt experiments/_code_sums.c experiments/_code_loops.h
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info experiments/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
