# Two commands on a fresh machine: `make demo` and `make test`. Both set up the environment first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test docs coverage test-faults lint lock clean bench-fidelity bench-drift bench-gallery bench-panel bench-speed bench-vintages

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.ready
BENCHMARKS := $(VENV)/.benchmarks
CASES ?= benchmarks/fidelity/posteriordb
DOCS := $(VENV)/.docs
# pyenv and uv read .python-version; elsewhere a python3.12 on the PATH is used.
FIND_PYTHON = for candidate in "$$(command -v python3.12)" "$$(command -v python3)" "$$(command -v python)"; do \
	  if [ -n "$$candidate" ] && "$$candidate" -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 12))' 2>/dev/null; \
	  then echo "$$candidate"; break; fi; done

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP)  ## virtual environment from the hashed lock

$(STAMP): requirements.lock pyproject.toml
	@set -e; python="$$($(FIND_PYTHON))"; \
	if [ -z "$$python" ]; then \
	  echo "Lindley needs Python 3.12, and none is on the PATH. Install it (pyenv install 3.12, uv python install 3.12,"; \
	  echo "or your system's python3.12 with its venv package) and run make again."; exit 1; fi; \
	echo "Setting up $(VENV) with $$python (some minutes the first time)"; \
	"$$python" -m venv --clear $(VENV)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes \
	  -r requirements.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# Bytecode once, here, on two cores: where it is not written at import, every start would compile for seconds.
	@$(PYTHON) -m compileall -q -j 2 $(VENV)/lib > /dev/null || true
	@touch $(STAMP)

$(BENCHMARKS): $(STAMP) benchmarks/requirements.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r benchmarks/requirements.lock
	@touch $@

$(DOCS): $(STAMP) docs/requirements.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r docs/requirements.lock
	@touch $@

demo: setup  ## the 1978 influenza chain, from genesis to head, through Prefect and MLflow
	@$(VENV)/bin/lindley demo

test: setup lint $(BENCHMARKS)  ## lint, all tests, the quick fidelity benchmark
	@$(PYTHON) -m pytest -n 3 --dist loadfile --no-loadscope-reorder
	@$(PYTHON) -m benchmarks.fidelity.run --cases $(CASES) --quick
	@$(MAKE) --no-print-directory docs

coverage: setup $(BENCHMARKS)  ## run the tests and report the branches that they do not cover
	@$(PYTHON) -m pytest --cov --cov-report=term:skip-covered

test-faults: setup  ## races, kills, tampering, hostile inputs, with tables (hours; RACES=1 KILLS=1 INPUTS=2000: less)
	@$(PYTHON) -m tests.faults.run $(if $(RACES),--races $(RACES)) $(if $(KILLS),--kills $(KILLS)) \
	  $(if $(INPUTS),--inputs $(INPUTS))
	@$(PYTHON) -m pytest -m faults tests/contract tests/faults tests/flows tests/lindley

docs: setup $(DOCS)  ## this documentation as a site, docs/_build/html/index.html; runs the tutorials
	@$(PYTHON) -m sphinx -W --keep-going -q -j 2 -b html docs docs/_build/html
	@echo "The site is docs/_build/html/index.html"

lint: setup  ## style, types, layers
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

bench-fidelity: setup $(BENCHMARKS)  ## compare chains with reference posteriors (an hour; QUICK=1: 5 minutes; CASES=folder)
	@$(PYTHON) -m benchmarks.fidelity.run --cases $(CASES) $(if $(QUICK),--quick)

bench-drift: setup  ## compare true with stated errors along streams whose posterior is known (an hour; QUICK=1: 5 minutes)
	@$(PYTHON) -m benchmarks.drift.run $(if $(QUICK),--quick)

bench-gallery: setup $(BENCHMARKS)  ## fit the gallery of models, docs/what-works.md (two hours; goes on where it stopped)
	@$(PYTHON) -m tests.gallery.run; code=$$?; $(PYTHON) -m tests.gallery.table; exit $$code

bench-panel: setup  ## fit thousands of members of a panel beside other ways (an hour; QUICK=1: 5 minutes)
	@$(PYTHON) -m benchmarks.panel.run $(if $(QUICK),--quick)

bench-speed: setup $(BENCHMARKS)  ## compare the time of updates with PyMC, docs/performance.md (two hours; QUICK=1: 20 minutes)
	@$(PYTHON) -m benchmarks.speed.run $(if $(QUICK),--quick)

bench-vintages: setup $(BENCHMARKS)  ## follow 30 versions of a revised file, by pulls and refits (ten minutes; QUICK=1: two)
	@$(PYTHON) -m benchmarks.vintages.run $(if $(QUICK),--quick)

lock:  ## resolve requirements.lock and docs/requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --extra dev --python-version 3.12 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet -o requirements.lock
	uv pip compile --group docs --constraints requirements.lock --python-version 3.12 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet -o docs/requirements.lock

clean:  ## remove the files of setup, demo and tests
	rm -rf $(VENV) demo-output docs/_build docs/reference/generated docs/reference/commands.md .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .benchmarks
