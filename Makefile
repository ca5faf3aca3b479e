# The commands of README.md. Every target sets up what it needs, so each works in a fresh clone.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PG ?=
PYTEST_ARGS ?=

BIN := .venv/bin
STAMP := .venv/.setup-done
# No target reports usage to anybody.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: help setup run up down test test-long lint format bench lock clean postgres

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv and install the locked packages (done by every other target)

$(STAMP): pyproject.toml requirements-dev.lock requirements-bootstrap.lock
	@started=$$SECONDS; \
	python=; \
	for candidate in "$(PYTHON)" python3 python3.13 python3.12 python3.11; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "setup: Python 3.11 or later is needed, and found is: $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "setup: install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  echo "setup: creating .venv with $$("$$python" --version)"; \
	  rm -rf .venv; \
	  if ! "$$python" -m venv .venv; then \
	    rm -rf .venv; \
	    echo "setup: this Python cannot create virtual environments (Debian: apt-get install python3-venv)." >&2; \
	    exit 1; \
	  fi; \
	fi; \
	if ! $(BIN)/uv --version >/dev/null 2>&1; then \
	  echo "setup: installing the pinned installer (uv)"; \
	fi; \
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-input \
	  --require-hashes -r requirements-bootstrap.lock; \
	echo "setup: installing $$(grep -c '^[a-z].*==' requirements-dev.lock) pinned packages"; \
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	touch $@; \
	echo "setup: ready after $$((SECONDS - started)) s"

run: setup  ## load the sample input: every flow once, then one summary table
	@$(BIN)/gatte sandbox run

up: setup  ## leave Prefect, a worker, the schedules and the stand-ins running; prints the links
	@$(BIN)/gatte sandbox up

down: setup  ## stop what make up started
	@$(BIN)/gatte sandbox down

# Coverage may only rise: raise the floor when it has.
COVERAGE := --cov --cov-report=term:skip-covered --cov-fail-under=80
PYTEST := $(BIN)/python -m pytest
# Half of a core would be idle with one. In what groups tests go to workers stands in tests/conftest.py.
WORKERS ?= 2
PARALLEL := --numprocesses=$(WORKERS) --dist=loadgroup --no-loadscope-reorder

ifeq ($(strip $(PG)),)
test: setup  ## run the tests (PG=15: the database tests on Debian's PostgreSQL 15)
	$(PYTEST) $(PARALLEL) -m "not long and not browser" $(COVERAGE) $(PYTEST_ARGS)
else
test: setup postgres
	GATTE_TEST_PG=$(PG) $(PYTEST) $(PARALLEL) -m "not long" tests/database $(PYTEST_ARGS)
endif

test-long: setup  ## also the kills, the many-example properties and the browser
	GATTE_TEST_PROFILE=explore $(PYTEST) $(PARALLEL) --timeout=3600 $(PYTEST_ARGS)

# RUNLEVEL=1 keeps the package from starting a server: the tests start their own.
postgres:
	@case "$(PG)" in [1-9][0-9]) ;; *) echo "test: PG must be a major version, such as PG=15." >&2; exit 1 ;; esac; \
	if [ -x /usr/lib/postgresql/$(PG)/bin/initdb ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "test: PostgreSQL $(PG) is not in /usr/lib/postgresql/$(PG); install it first:" >&2; \
	  echo "test:   sudo apt-get install postgresql-$(PG)" >&2; \
	  exit 1; \
	fi; \
	echo "test: installing postgresql-$(PG)"; \
	export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	apt-get install --quiet --quiet --yes --no-install-recommends postgresql-$(PG) >/dev/null \
	|| { apt-get update --quiet --quiet \
	  && apt-get install --quiet --quiet --yes --no-install-recommends postgresql-$(PG) >/dev/null; }

# In a git checkout whatever git does not ignore, in an unpacked archive every .sql file.
SQL_FILES = $(shell git ls-files --cached --others --exclude-standard '*.sql' 2>/dev/null \
  || find src dbt -name '*.sql')

lint: setup  ## style, types, import rules, SQL, and what no file may hold
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/sqlfluff lint --disable-progress-bar $(SQL_FILES)
	$(PYTEST) --quiet --no-cov tests/project/test_house.py

format: setup  ## format Python and SQL
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff fix --disable-progress-bar --quiet $(SQL_FILES)

bench: setup  ## measure, and print each ratio beside its target
	@missed=; \
	measure() { echo "bench: $$*"; $(BIN)/python "$$@" || missed="$$missed $$1"; }; \
	for benchmark in benchmarks/[a-z]*.py; do measure "$$benchmark"; done; \
	measure benchmarks/inbound_load.py --chatbot-pct 30; \
	if [ -n "$$missed" ]; then echo "bench: missed its target:$$missed" >&2; exit 1; fi

clean:  ## remove .venv and caches; .gatte (the local database) stays
	@if [ -x $(BIN)/gatte ]; then $(BIN)/gatte sandbox down; fi
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-header

lock: setup  ## resolve the packages anew (then look at the diff and run make test)
	$(LOCK) --group bootstrap -o requirements-bootstrap.lock
	$(LOCK) pyproject.toml --group build -o requirements.lock
	$(LOCK) pyproject.toml --group build --group dev -c requirements.lock -o requirements-dev.lock
	@echo "lock: resolving them together with the packages of later parts"
	@$(LOCK) pyproject.toml --group build --group dev --group later -c requirements-dev.lock >/dev/null
