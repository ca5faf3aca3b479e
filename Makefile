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

LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-header

lock: setup  ## resolve the packages anew (then look at the diff and run make test)
	$(LOCK) --group bootstrap -o requirements-bootstrap.lock
	$(LOCK) pyproject.toml --group build -o requirements.lock
	$(LOCK) pyproject.toml --group build --group dev -c requirements.lock -o requirements-dev.lock
	@echo "lock: resolving them together with the packages of later parts"
	@$(LOCK) pyproject.toml --group build --group dev --group later -c requirements-dev.lock >/dev/null
