# make demo · make test · make check · make bench · make dist · make pilot: each works on a fresh machine
# with Python 3.11+ and make. All of them set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: setup demo test test-fast long check bench dist pilot lock clean

setup: $(STAMP)

$(STAMP): requirements.lock requirements-dev.lock pyproject.toml tools/models.py
	$(PYTHON) tools/require_python.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python tools/models.py wheels --out dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall dist/drystone_model_*.whl
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/drystone demo --once

# The fast ring runs without a network; the others make their own namespaces and processes.
test: test-fast
	$(BIN)/python -m pytest -n auto -m "(engines or whole) and not long"

# Minutes each: bombs, millions of rows, 10,000 files, and an hour of fuzzing if FUZZ_SECONDS=3600.
long: setup
	$(BIN)/python -m pytest -m long
	$(BIN)/python tools/fuzz.py --seconds $(or $(FUZZ_SECONDS),300)

test-fast: setup
	$(BIN)/python tools/offline.py $(BIN)/python -m pytest -n auto -m "not engines and not whole and not long"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m bench

dist: setup
	$(BIN)/python tools/dist.py

pilot: dist
	$(BIN)/python -m pilot

lock:
	$(BIN)/python tools/lock.py

clean:
	rm -rf $(VENV) dist build
