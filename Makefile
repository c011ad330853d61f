# Everything a newcomer needs: `make run` and `make test` set up a virtual environment by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INPUT ?= examples/support_tickets.jsonl

.DEFAULT_GOAL := help
.PHONY: help run test check bench oracle soak lock clean

help:  ## show what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

# pip first: releases before 25.1 do not know dependency groups.
$(STAMP): pyproject.toml requirements.lock
	@echo "setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable . --group dev
	@touch $@

run: $(STAMP)  ## answer the example's support tickets (INPUT=... for another file)
	@$(BIN)/greenroom run $(INPUT)

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest

check: $(STAMP)  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(STAMP)  ## run the benchmarks
	$(BIN)/python -m benchmarks

oracle: $(STAMP)  ## let a real Erlang/OTP play the conformance cases (erlang-base)
	$(BIN)/python -m pytest tests/conformance/oracle

soak: $(STAMP)  ## the long forms of the chaos and kill tests
	$(BIN)/python -m pytest -m soak --timeout 3600

lock: $(STAMP)  ## pin today's versions of everything that CI installs
	@$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

clean:  ## remove the virtual environment and what tools leave behind
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
