# Everything a developer does here, in the words that CI uses. Each target sets up what it needs.
#   make demo    a real Airflow runs the example pipeline on a local Titan cluster
#   make test    what a change most often breaks, in minutes (installs Debian packages)
#   make test-all   the whole suite (a quarter of an hour)   make check   format, lint, types, layout rules
#   make coverage   every branch of the SDK's wire, model and flows is taken by their own tests, or it fails
#   make e2e     a real `airflow standalone`: examples, kills and clears, a browser (installs Debian's chromium)
#   make test-airflow2   the provider's tests and the example DAGs on Airflow 2.11, in an environment of its own
#   make test-redis   the contract suite and the hazards with the state in a Redis
#   make test-ray   these two and the example DAGs, with the jobs on a Ray cluster and the state in Redis
#   make chaos   tasks killed, cleared and restarted in a real Airflow (a quarter of an hour)
#   make crash   the bundled master killed 200 times per store and kind of load, each of its system calls failed once, and 1,000
#                histories of what eight clients see meanwhile (40 minutes; TITAN_CRASH_SEED repeats a run)
#   make bench   how fast it is here, and whether the ceilings hold (half an hour; ARGS=--quick, --page, --upstream PATH)
#   make unasync   write the blocking half of the client from the asynchronous one
#   make clean   remove what the others made
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
E2E_STAMP := $(VENV)/.installed-e2e
CONSTRAINTS ?= -c constraints.txt
# Processes that `make test` runs tests in. A file's tests stay together: they share what is slow to set up.
WORKERS ?= 2
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --no-input --disable-pip-version-check $(CONSTRAINTS)

.PHONY: help setup demo test test-all test-ray test-redis test-airflow2 constraints-airflow2 e2e chaos crash coverage check fix unasync bench clean constraints _demo _test _test_all _e2e _chaos _crash _coverage _check _test_ray _test_redis _test_airflow2

help:
	@sed -n 's/^#   //p' Makefile

# -- setup: a virtual environment, rebuilt only when the dependencies change ---------------------------
setup: $(STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" \
	    if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

# hatchling first: without build isolation pip downloads the build tool once, pinned, instead of per build.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "setting up $(VENV) (a minute or so)"
	@$(PIP_INSTALL) hatchling editables
	@$(PIP_INSTALL) --no-build-isolation -e '.[airflow,demo,dev]'
	@touch $@

constraints: | $(BIN)/python
	@{ sed '/^#/!d' constraints.txt; \
	   $(BIN)/python -m pip freeze --exclude-editable --disable-pip-version-check; } > constraints.new
	@mv constraints.new constraints.txt

# -- what people run; each says how long it took, setup included ---------------------------------------
demo:
	@MAKE_DEMO_STARTED=$$(date +%s) $(MAKE) --no-print-directory _demo
test:
	@.ci/timed "make test" $(MAKE) --no-print-directory _test
test-all:
	@.ci/timed "make test-all" $(MAKE) --no-print-directory _test_all
test-airflow2:
	@.ci/timed "make test-airflow2" $(MAKE) --no-print-directory _test_airflow2
test-redis:
	@.ci/timed "make test-redis" $(MAKE) --no-print-directory _test_redis
test-ray:
	@.ci/timed "make test-ray" $(MAKE) --no-print-directory _test_ray
check:
	@.ci/timed "make check" $(MAKE) --no-print-directory _check
e2e:
	@.ci/timed "make e2e" $(MAKE) --no-print-directory _e2e
chaos:
	@.ci/timed "make chaos" $(MAKE) --no-print-directory _chaos

crash:
	@.ci/timed "make crash" $(MAKE) --no-print-directory _crash
coverage:
	@.ci/timed "make coverage" $(MAKE) --no-print-directory _coverage

# Of the directories' own tests alone: what only a whole cluster reaches would not tell which case is missing.
_coverage: $(STAMP)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --cov --cov-report=term-missing:skip-covered \
	    tests/sdk/wire tests/sdk/model tests/sdk/flows

_crash: $(STAMP)
	TITAN_CRASH_KILLS=200 TITAN_CRASH_HISTORIES=1000 $(BIN)/python -m pytest tests/crash -q -s

_demo: $(STAMP)
	@$(BIN)/python -m dags_examples.demo

# What some tests drive that pip has not got. Where it cannot be installed, those tests say so and are skipped.
DEBIAN := redis-server stunnel4
DEBIAN_STAMP := $(VENV)/.installed-debian
$(DEBIAN_STAMP): $(STAMP)
	@dpkg -s $(DEBIAN) >/dev/null 2>&1 || { test "$$(id -u)" = 0 && apt-get update -qq && \
	    apt-get install -y -qq --no-install-recommends $(DEBIAN) >/dev/null; } || echo "not installed: $(DEBIAN)"
	@touch $@

# Frames of pandas, Arrow and polars take 440 MB: `make test` goes without, and skips their tests.
VALUES_STAMP := $(VENV)/.installed-values
$(VALUES_STAMP): $(STAMP)
	$(PIP_INSTALL) -e '.[values]' --no-build-isolation
	@touch $@

# Without the tests that are marked slow: each says why it takes long where it is marked.
_test: $(DEBIAN_STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart=0 -m "not slow" $(ARGS)

_test_all: $(DEBIAN_STAMP) $(VALUES_STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart=0 $(ARGS)

_test_redis: $(DEBIAN_STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS) --titan-store redis tests/contract tests/hazards

_test_ray: $(DEBIAN_STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS) --titan-engine ray --titan-store redis \
	    tests/contract tests/hazards tests/examples/test_example_dags.py

_check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/rules

fix: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

unasync: $(STAMP)
	$(BIN)/python .ci/unasync.py

# Other runners of processes, to stand beside ours. The figures without them are complete, too.
BENCH_STAMP := $(VENV)/.installed-bench
GROUP = $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["bench"], sep="\n")'
$(BENCH_STAMP): $(STAMP)
	@{ $(GROUP) | xargs -d '\n' $(PIP_INSTALL) && touch $@; } || echo "not installed: the dependency group bench"

bench: $(BENCH_STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)

# Debian's chromium is the browser; Playwright from PyPI only drives it (its own browsers are not downloaded).
$(E2E_STAMP): $(STAMP)
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }
	$(PIP_INSTALL) -e '.[e2e]' --no-build-isolation
	@touch $@

PYTEST_E2E := $(BIN)/python -m pytest -o addopts= --import-mode=importlib -ra -v

# Airflow's own race, see AirflowMisjudged in tests/e2e/lab.py; whatever else fails is not run again.
_e2e: $(E2E_STAMP)
	$(PYTEST_E2E) --reruns 3 --only-rerun AirflowMisjudged --ignore=tests/e2e/chaos tests/e2e $(ARGS)

_chaos: $(STAMP)
	$(PYTEST_E2E) tests/e2e/chaos $(ARGS)

# -- Airflow 2.11: the oldest that the provider supports, with the same tests and DAG files -----------------------
VENV2 := .venv-airflow2
STAMP2 := $(VENV2)/.installed
CONSTRAINTS2 ?= -c constraints-airflow2.txt
PIP_INSTALL2 := $(VENV2)/bin/python -m pip install --quiet --quiet --no-input --disable-pip-version-check $(CONSTRAINTS2)

$(STAMP2): pyproject.toml constraints-airflow2.txt
	@echo "setting up $(VENV2) (a minute or two)"
	@test -x $(VENV2)/bin/python || $(PYTHON) -m venv $(VENV2)
	@$(PIP_INSTALL2) hatchling editables setuptools wheel
	@$(PIP_INSTALL2) --no-build-isolation -e '.[airflow,demo]' 'apache-airflow==2.11.*' apache-airflow-providers-openlineage hypothesis cryptography \
	    pytest pytest-asyncio pytest-mock pytest-timeout pytest-xdist
	@touch $@

_test_airflow2: $(STAMP2)
	$(VENV2)/bin/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart=0 $(ARGS) tests/provider tests/examples/test_example_dags.py

constraints-airflow2: | $(STAMP2)
	@{ sed '/^#/!d' constraints-airflow2.txt; \
	   $(VENV2)/bin/python -m pip freeze --exclude-editable --disable-pip-version-check; } > constraints.new
	@mv constraints.new constraints-airflow2.txt

clean:
	rm -rf $(VENV) $(VENV2) .demo e2e-artifacts .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
