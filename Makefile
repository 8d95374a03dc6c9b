# Everything a newcomer, a contributor and CI need, in one word each. `make help` lists it.

PYTHON ?= python3
BIN := .venv/bin
# Arguments of pytest, for example: make test TESTS="tests/models -x"
TESTS ?=
# How many files of tests are run at a time; 0 runs them in this process (for --pdb)
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test test-all test-clients test-faults check format docs pages bench-feedback bench-training bench-peers clean distclean

help:  ## Say what can be made
	@awk 'BEGIN { FS = ":.*## "; print "make <what>\n" } \
		/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nA Python of your choice: make setup PYTHON=python3.12\n'

setup:  ## Make .venv with the pinned packages and the Redis server
	@$(PYTHON) deploy/setup_env.py

setup-dev:  ## The same, with what tests and checks need
	@$(PYTHON) deploy/setup_env.py --dev

run: setup  ## Set up, then start everything: http://127.0.0.1:8000
	@exec $(BIN)/thumbloop up

# The tests of one file run in one process, in their order
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: setup-dev  ## Set up, then the checks, then all tests but the long ones
	@$(MAKE) --no-print-directory check
	$(PYTEST) $(TESTS)

test-all: setup-dev  ## The same with the long tests (half an hour)
	@$(MAKE) --no-print-directory check
	$(PYTEST) -m "" $(TESTS)

test-clients: setup-dev  ## Other people's client libraries against a server (installs them once)
	$(BIN)/python -m tests.clients.run

bench-feedback: setup-dev  ## Votes over HTTP beside a bare route and Redis alone; memory; claims
	$(BIN)/python -m bench.votes

test-faults: setup-dev  ## Break Redis, workers and learners, at length; prints what was counted
	$(BIN)/python -m pytest tests/faults -m "" -rP $(TESTS)

check: setup-dev  ## Format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-dev  ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup-dev  ## Build the documentation as a site in build/site; a warning stops it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pages: setup  ## Write the pages of the reference that come from the code
	$(BIN)/python docs/generate/settings.py
	$(BIN)/python docs/generate/commands.py
	$(BIN)/python docs/generate/columns.py

bench-training: setup-dev  ## Time one update beside plain loops and TRL (half an hour)
	$(BIN)/python -m bench.training

bench-peers: setup-dev  ## Measure serving beside vLLM and transformers serve (half an hour)
	$(BIN)/python -m bench.peers

clean:  ## Remove what tools left behind; keeps .venv and var
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## Remove .venv too; keeps var, which holds votes and adapters
	rm -rf .venv
