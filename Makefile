# The commands of the README and of CONTRIBUTING. All make .venv and install into it first; the second call finds that done.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check coverage dist docs docs-links clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/dfpipe demo

# Two processes, each with one thread: half of the tests wait for processes of their own. See tests/conftest.py.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Style and types. mypy cannot see through an editable install, so it reads a copy.
check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build .venv/check
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .venv/check .
	rm -rf build
	MYPYPATH=.venv/check $(BIN)/mypy

# How much of the code the tests reach. What runs in a child that is killed at its end is not counted.
coverage: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  --cov --cov-report=term:skip-covered

# Into dist/: the sdist, and the wheel that is built from it. tests/test_distribution.py looks into both.
dist: .venv/installed
	$(BIN)/python -m build --no-isolation

# The site, into site/: see CONTRIBUTING.md. A broken link is an error. docs-links asks those that lead to other sites, too.
docs: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -E -W -n --keep-going -q -d .venv/doctrees docs site
	@echo "open site/index.html"

docs-links: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b linkcheck -E -q docs build/links

.venv/installed: setup.cfg pyproject.toml pipeline/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dfpipe needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[train,dev]'
	touch $@

clean:
	rm -rf build dist site .venv *.egg-info .mypy_cache .pytest_cache .ruff_cache
