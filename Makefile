# One way to run.  `make demo` and `make test` need only Python >= 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_JOBS ?= 2
PACKAGES := base kvtier txn planner sql wire node tpcc sim meridian

.PHONY: demo test install check lint types sim-smoke compiled test-compiled bench clean

demo: install
	$(BIN)/meridian demo

test: install
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m compileall -q $(PACKAGES)
	touch $(STAMP)

check: lint types test sim-smoke

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# mypyc refuses constructs that mypy takes: it translates the listed modules, without a C compiler.
types: install
	$(BIN)/mypy
	COMPILED=1 $(BIN)/python setup.py -q --name

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-data

# The compiled tree: packages copied, .so beside .py; the source tree stays pure.
build/compiled/.done: pyproject.toml setup.py $(shell find $(PACKAGES) -name '*.py' 2>/dev/null)
	rm -rf build/compiled && mkdir -p build/compiled
	cp -r $(PACKAGES) build/compiled/
	find build/compiled -name __pycache__ -prune -exec rm -r {} +
	COMPILED=1 $(BIN)/python setup.py -q build_ext --build-lib build/compiled --build-temp build/temp
	touch $@

compiled: install
	@if command -v cc >/dev/null; then $(MAKE) build/compiled/.done; else echo "no C compiler: the pure build works without one"; fi

# The same tests; tests/test_compiled.py fails if a listed module was imported from its .py.
test-compiled: compiled
	MERIDIAN_TREE=compiled PYTHONSAFEPATH=1 PYTHONPATH=build/compiled:. $(BIN)/python -m pytest -o pythonpath=build/compiled --import-mode=importlib

bench: install compiled
	$(BIN)/python -m bench

sim-smoke: install
	$(BIN)/python -m sim --seeds 1..200 --until 10 --jobs 2
	$(BIN)/python -m sim --seeds 1..40 --until 6 --nodes 3 --regions 3 --jobs 2
