# `make up` and `make test` are the two commands a newcomer needs; README.md says more.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: up room install test gate check static types unit format docs clean soak faults dashboards pictures
.DEFAULT_GOAL := help

help:            ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

up: room         ## set everything up and start the room, with a first real backup
	@$(BIN)/ops up --demo

room: .venv/room ## make .venv with what operators need, or bring it up to date

install: .venv/installed  ## make .venv for developers: the room, and what checks and tests it

PIP = $(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable

.venv/room: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv || { echo 'No venv in this Python: apt-get install python3-venv' >&2; exit 1; }
	@echo 'Installing the room into .venv, about 100 packages: a minute or so ...'
	@$(PIP) .
	@touch $@

.venv/installed: .venv/room
	@echo 'Installing what checks and tests it ...'
	@$(PIP) '.[dev]'
	@touch $@

# a file, the room or the fault lab stays in one of the processes that share the tests (tests/conftest.py)
SHARED := --dist=loadscope --no-loadscope-reorder --numprocesses

test: install    ## unit and integration tests, and a real proof of each promise, in about 10 minutes
	@$(BIN)/pytest -m 'not gate and not soak' $(SHARED)=3  # one more than there are cores: many wait

gate: install    ## all that, every fault case and every page of the room, in under an hour
	@$(BIN)/pytest -m 'not soak' $(SHARED)=3

faults: install  ## the fault cases alone: everything is killed, stopped and cut off
	@$(BIN)/pytest -m 'not soak' tests/acceptance/faults

soak: install    ## the long rest: whole matrices, then 1,000 runs while everything is killed; writes benchmarks/soak.md
	@$(BIN)/pytest -m soak $(SHARED)=2
	@$(BIN)/python -m tests.acceptance.faults.soak

check: install   ## format, lint, types, import order and unit tests, in about two minutes
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target static unit

static: install  ## what can be said of the code without running it: format, lint, import order, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory types

types: install   ## the types alone
	$(BIN)/mypy

unit: install    ## the unit tests alone
	$(BIN)/pytest tests/unit

format: install  ## format the code and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dashboards: install  ## write exporter/dashboards/*.json
	@$(BIN)/python -m exporter.dashboards

pictures: install  ## make the pictures of the Prefect UI in docs/ again
	@OPS_TEST_PICTURES=docs $(BIN)/pytest tests/acceptance/room/test_pages.py

docs: install    ## write docs/settings.md from the settings
	@$(BIN)/python -m tests.unit.test_docs

clean:           ## remove .venv and caches; the room's state in .ops stays
	rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache build *.egg-info

.PHONY: benchmark
benchmark: install  ## measure our worker beside Prefect's stock one, in about 15 minutes on a quiet machine
	$(BIN)/python -m benchmarks.lanes
