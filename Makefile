# Everything runs in the project's own environment, .venv: made by uv where it is present, else by venv and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null)
SLOW_ARGS ?=
# Tests side by side, each worker with a PostgreSQL of its own: for two cores three, as much of a test is waiting. The slow
# proofs go by the wall clock, and have a core each.
WORKERS ?= 3
SLOW_WORKERS ?= 2
# What tests write is kept in memory where there is plenty: a disk that stalls is not what they are about, and a process
# that is killed leaves its files as whole there.
SCRATCH ?= $(shell grep -qs ' /dev/shm [^ ]* [^ ]*noexec' /proc/mounts || \
  df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 8 * 1024 * 1024 { print "/dev/shm" }')
PYTEST := $(if $(SCRATCH),TMPDIR=$(SCRATCH)) $(BIN)/python -m pytest
BENCH_ARGS ?=
PACING_ARGS ?=

.PHONY: help demo test test-postgres integrations slow check lint bench operations lock clean

help:
	@echo "make demo    a photograph in, signed events out: service, sandboxes and a receiver on this machine"
	@echo "make test    the whole test suite, the slow proofs left out"
	@echo "make test-postgres  the acceptance and kill tests once more, on PostgreSQL"
	@echo "make integrations  Zapier, n8n, Make, Node-RED and shops, with software that is not ours"
	@echo "make slow    the slow proofs: long runs with kill -9, a day of jobs, a database away for 30 s"
	@echo "make check   ruff, mypy, import-linter, then the tests"
	@echo "make bench   speed and memory, as ratios in one run; then the pacing of vendors, in virtual time"
	@echo "make operations  write README's table of operations anew, from the catalogue"
	@echo "make lock    pin the dependencies anew, with hashes"

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Wirephoto needs Python 3.11 or newer; choose one with: make PYTHON=python3.11 …"; exit 1; }
ifneq ($(UV),)
	@test -x $(BIN)/python || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	@touch $@

demo: $(STAMP)
	@$(BIN)/wirephoto demo

test: $(STAMP)
	$(PYTEST) -n $(WORKERS) -m "not slow and not again and not integrations"

test-postgres: $(STAMP)
	$(PYTEST) -n $(WORKERS) -m "again and not slow"

# What is not there yet is installed first, by npm, and kept beside its lock file. What can't be is named, and fails.
integrations: $(STAMP)
	$(BIN)/python -m tests.integrations.software
	$(BIN)/python -m pytest -n $(SLOW_WORKERS) -m integrations

slow: $(STAMP)
	$(PYTEST) -n $(SLOW_WORKERS) -m slow $(SLOW_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(STAMP)
	$(BIN)/python -m tests.bench $(BENCH_ARGS)
	$(BIN)/python -m tests.bench.pacing $(PACING_ARGS)

# Universal: the same pins for every platform and Python from 3.11 on. No index addresses are written down.
operations: $(STAMP)
	@$(BIN)/python -m tests.architecture.operations_table

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra speed --extra postgres --extra s3 pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra speed --extra postgres --extra s3 --extra dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) dist build demo-results .pytest_cache .mypy_cache .ruff_cache .hypothesis
