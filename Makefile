# `make demo`: the main job, from nothing to a report.   `make test`: every check and test.
# Both make .venv with Python 3.11 first and install into it what they need; a second call skips that.
# Another interpreter: `make test PYTHON=/path/to/python3.11`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-latest bench clean

VENV ?= .venv
LATEST ?= .venv-latest
PYTHON ?=
# The name of the demo's run, and anything more for `limbeck run`, such as `DEMO_ARGS="--seeds 3"`.
NAME ?= demo
DEMO_ARGS ?=
# Anything more for pytest, such as `PYTEST_ARGS="-k attention"`.
PYTEST_ARGS ?=
REPLAY_FREE = -m "not replay"

# $(call find_python,CONDITION): the first interpreter whose version meets it and that can make an environment
# with pip in it (Debian's own cannot until python3.11-venv is installed; a pyenv shim may be there without a
# Python behind it).
find_python = for candidate in $(PYTHON) python3.11 python3.14 python3.13 python3.12 python3 \
	$$(ls -d ~/.pyenv/versions/*/bin/python 2>/dev/null | sort -rV) /usr/local/bin/python3.1? /usr/bin/python3.1?; do \
	path=$$(command -v "$$candidate" 2>/dev/null) || continue; \
	if "$$path" -c 'import sys, ensurepip, venv; sys.exit(not ($(1)))' >/dev/null 2>&1; then \
		echo "$$path"; break; fi; done

help:
	@sed -n 's/^# //p' Makefile | head -3

$(VENV)/made:
	@python=$$($(call find_python,sys.version_info[:2] == (3, 11))); \
	if [ -z "$$python" ]; then \
		echo "make: no Python 3.11 that can make environments was found (Debian: apt-get install python3.11-venv);" \
			"name one with PYTHON=/path/to/python3.11" >&2; exit 1; fi; \
	echo "Making $(VENV) with $$python"; \
	"$$python" -m venv $(VENV); \
	touch $@

$(VENV)/demo: $(VENV)/made setup.cfg constraints.txt
	@echo "Installing what the demo needs into $(VENV)"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[replay]"
	@touch $@

$(VENV)/dev: $(VENV)/made setup.cfg constraints.txt
	@echo "Installing the development extras into $(VENV)"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,replay]"
	@touch $@ $(VENV)/demo

$(VENV)/bench: $(VENV)/dev
	@echo "Installing the benchmarks' peers into $(VENV)"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	@touch $@

demo: $(VENV)/demo
	@$(VENV)/bin/limbeck run dark_room --name $(NAME) $(DEMO_ARGS)

test: $(VENV)/dev
	@echo "ruff check" && $(VENV)/bin/ruff check --quiet .
	@echo "ruff format --check" && $(VENV)/bin/ruff format --quiet --check .
	@echo "basedpyright" && $(VENV)/bin/basedpyright --level error --pythonpath $(VENV)/bin/python
	@$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

# The newest JAX and everything else, without Reverb, whose wheels end at Python 3.11.
test-latest:
	@python=$$($(call find_python,sys.version_info >= (3, 12))); \
	if [ -z "$$python" ]; then echo "make test-latest: no Python 3.12 or later is installed; nothing was tested"; exit 0; fi; \
	if [ ! -e $(LATEST)/made ] || [ setup.cfg -nt $(LATEST)/made ]; then \
		echo "Making $(LATEST) with $$python and the newest of everything"; \
		"$$python" -m venv $(LATEST); \
		$(LATEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade -e ".[dev]"; \
		touch $(LATEST)/made; fi; \
	$(LATEST)/bin/python -c 'import sys, jax; print("Python", sys.version.split()[0], "with JAX", jax.__version__)'; \
	$(LATEST)/bin/python -m pytest $(REPLAY_FREE) $(PYTEST_ARGS)

bench: $(VENV)/bench
	@$(VENV)/bin/python -m benchmarks.speed

clean:
	rm -rf $(VENV) $(LATEST) build *.egg-info .pytest_cache .ruff_cache
