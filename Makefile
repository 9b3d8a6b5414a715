# The two commands of a new user are `make demo` and `make test`: each sets up all that it needs in .venv.
# The first of these that is here; make test PYTHON=python3.13 takes another
PYTHON ?= $(or $(firstword $(foreach version,3.11 3.12 3.13,$(shell command -v python$(version) 2>/dev/null))),python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes of heavy tests. Each has a Ray cluster of its own and up to three workers with TensorFlow, and some of them wait: three keep two cores busy. make test JOBS=2 where memory is scarce
JOBS ?= 3
# Twice as many as there are cores, since some of the quick tests wait, and no more than memory is there for: they are forks of one process that has collected the tests
QUICK_JOBS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); expr 2 \* $$(( cores < 4 ? cores : 4 )))
FAST := tests --ignore=tests/chaos --ignore=tests/benchmarks -m "not (slow or tf or ray or http or gpu or chaos or soak or bench or browser or fuzz)"
HEAVY := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 tests --ignore=tests/benchmarks -m "(slow or tf or ray or http or chaos) and not (gpu or soak or bench or browser or fuzz)"

.PHONY: help setup demo wheel test check check-fast lint test-fast soak mutants fuzz bench browser gpu-check gpu-report gpu-dry-run clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# Each process would compile this project's modules anew
unexport PYTHONDONTWRITEBYTECODE

# uv unpacks and compiles the large wheels on all cores and keeps them between runs; pip knows the package sources that only pip.conf names
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt --compile-bytecode

ENVIRONMENT := test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt
	$(ENVIRONMENT)
	($(PIP) uv && $(UV) -e '.[dev]') || $(PIP) -e '.[dev]'
	touch $(STAMP)

setup: $(STAMP)  ## Install everything into .venv

demo: $(STAMP)  ## Make a small TF1 run and resume it on two workers
	$(BIN)/tfresume demo

# pip alone builds it: nobody who only installs needs what developing takes
# What an earlier build left in build/lib would come into the wheel, modules that are gone among it
wheel:  ## Build dist/tfresume-*.whl, which any environment can install
	$(ENVIRONMENT)
	rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

lint: $(STAMP)  ## Lint, format, types, import law, dead code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

test-fast: $(STAMP)  ## The tests that need neither TensorFlow nor Ray and take no seconds
	$(BIN)/python -m pytest --processes $(QUICK_JOBS) $(FAST)

# Side by side: what lints uses one core for most of its time
check-fast: $(STAMP)  ## Lint and the quick tests, side by side (half a minute to a minute on two cores, half as much more without caches)
	$(MAKE) --no-print-directory --jobs 2 lint test-fast

check: check-fast  ## What test runs, with all examples of each kind
	$(HEAVY) --every-turn

# A process of tests that dies ends the run: pytest-xdist 3.8 would start another and may then wait for ever
test: check-fast  ## Everything that CI runs (nine to thirteen minutes on two cores)
	$(HEAVY)

soak: $(STAMP)  ## Thousands of kills, one hash for each graph (hours; make soak PART=3/20 runs one part of twenty)
	$(BIN)/python -m pytest tests -m soak --every-turn --timeout 7200 $(if $(PART),--part $(PART))
	$(if $(PART),,$(MAKE) --no-print-directory mutants)

mutants: $(STAMP)  ## What the tests of ROOM let pass (make mutants ROOM=decide.budgets; without it, of all that was gone through)
	($(PIP) uv && $(UV) -e '.[dev,mutants]') || $(PIP) -e '.[dev,mutants]'
	$(BIN)/python -m tests.mutants $(ROOM)

fuzz: $(STAMP)  ## Fuzz the readers for a while
	$(BIN)/python -m pytest tests -m fuzz --timeout 7200

bench: $(STAMP)  ## Speed and memory, as ratios measured side by side
	($(PIP) uv && $(UV) -e '.[dev,bench]') || $(PIP) -e '.[dev,bench]'
	$(BIN)/python -m tests.benchmarks

browser: $(STAMP)  ## The report page in a real browser (needs Chromium)
	$(BIN)/python -m pytest tests -m browser

gpu-check: $(STAMP)  ## What needs a GPU (one is enough)
	$(BIN)/python -m pytest tests -m gpu -v -p no:cacheprovider

gpu-report:  ## All that needs a GPU, on a bare machine: make gpu-report WHEELS=folder (README tells how to fill it)
	$(PYTHON) tests/gpu/run.py --wheels $(WHEELS)

gpu-dry-run: $(STAMP)  ## The same small and on the CPU, from what .venv has (about two minutes)
	$(BIN)/python tests/gpu/run.py --use-environment --dry-run-on-cpu --again --out build/gpu-dry-run

clean:  ## Remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
