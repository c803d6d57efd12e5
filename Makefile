# `make demo` and `make test` need Python 3.11+ and make, nothing else: they set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
# pyenv keeps its Pythons off the PATH; tox finds them when they stand at its end.
PYENV_PATHS = $(shell command -v pyenv >/dev/null 2>&1 && for each in "$$(pyenv root)"/versions/3.1[1-9]*/bin; do printf ':%s' "$$each"; done)
READY := .venv/.ready

.PHONY: demo test fast lint types layers live matrix benchmarks clean

demo: $(READY)  ## the whole story in two minutes
	$(BIN)/harness demo

test: lint types layers  ## everything that a change must pass
	$(BIN)/python -m pytest -n 4 --dist loadfile -q

fast: $(READY)  ## the tests that open no socket
	$(BIN)/python -m pytest -n 2 -q -m "not live and not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

matrix: $(READY)  ## every Python that is installed, every websockets that is supported, the wheel
	PATH="$$PATH$(PYENV_PATHS)" $(BIN)/tox run $(TOXARGS)

benchmarks: $(READY)
	for each in $(filter-out __init__,$(basename $(notdir $(wildcard benchmarks/*.py)))); do $(BIN)/python -m benchmarks.$$each || exit; done

clean:
	rm -rf .venv .tox build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $(READY)
