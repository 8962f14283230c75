# Everything here works on a fresh machine with Python 3.11 or newer, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast interop check format picture bench bench-keep lock clean

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(VENV)/.ready  ## make the virtual environment (the other targets do it by themselves)

$(VENV)/.ready: requirements/dev.txt pyproject.toml verify/pyproject.toml edge/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Forestall needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing dependencies into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e verify -e edge
	@touch $@

demo: setup  ## the main job: an agent is taken over, first without Forestall, then with it
	@$(BIN)/python -m demo

test: setup  ## all tests
	$(BIN)/pytest -q -n $(JOBS) --dist loadgroup

test-fast: setup  ## the tests that start no third-party servers and kill no processes
	$(BIN)/pytest -q -n $(JOBS) -m "not slow"

interop: setup  ## with real SPIRE and Vault, built from source the first time, and issuers like Kubernetes and GitHub; wants Linux, Go and a C compiler
	$(BIN)/pytest -v interop

check: setup  ## format, lint, types, import contracts, README against the real --help
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/readme.py --check

format: setup  ## mend what can be mended by a machine
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python scripts/readme.py --write

picture: setup  ## docs/demo.svg, from what the demo prints
	@$(BIN)/python -m demo --plain > $(VENV)/demo.txt
	@$(BIN)/python scripts/picture.py < $(VENV)/demo.txt

bench: $(BENCH)/.ready  ## the numbers in the README, side by side in one run; wants an idle machine
	@$(BENCH)/bin/python bench/run.py

bench-keep: $(BENCH)/.ready setup  ## the same, kept in bench/results.json and in the README's table
	@$(BENCH)/bin/python bench/run.py --json bench/results.json
	@$(BIN)/python scripts/readme.py --write

$(BENCH)/.ready: requirements/bench.txt pyproject.toml verify/pyproject.toml edge/pyproject.toml scripts/python.sh
	@test -x $(BENCH)/bin/python || "$${BENCH_PYTHON:-$$(sh scripts/python.sh)}" -m venv $(BENCH)
	@echo "Installing dependencies into $(BENCH) ..."
	@$(BENCH)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@$(BENCH)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e verify -e edge
	@touch $@

lock: setup  ## compile requirements/*.txt anew, with hashes and without hosts
	@for name in run dev bench; do \
	  CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	    --no-emit-index-url --no-emit-trusted-host --no-header -o requirements/$$name.txt requirements/$$name.in; done

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(BENCH) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
