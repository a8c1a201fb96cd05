# make demo: install, and compare five ways to train on 100 digits (3 minutes). make test: install, and run the fast tests.
# make bench: what expanding a SmallNet and a whole recipe cost, on an otherwise idle machine.
# make faults: kill, damage and fuzz at length (half an hour).
# make gpu: the tests that need CUDA, and the tables of benchmarks.gpu (9 minutes).
# make zoo: expand and compress a random sample of timm's architectures (an hour).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test faults bench gpu zoo check clean

demo: .venv/installed
	$(BIN)/python tools/demo.py

test: .venv/installed-test
	$(BIN)/pytest -n logical --maxprocesses 8 --dist loadfile

faults: .venv/installed-test
	$(BIN)/pytest -m long

bench: .venv/installed
	$(BIN)/python -m benchmarks.expand_cost --only 'SmallNet*'
	$(BIN)/python -m benchmarks.pipeline

gpu: .venv/installed-test
	$(BIN)/pytest tests/gpu
	$(BIN)/python -m benchmarks.gpu --json gpu.json

zoo: .venv/installed-test
	$(BIN)/python -m tests.zoo

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kdx needs Python 3.11 or newer: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

.venv/installed-dev: .venv/installed-test
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache
