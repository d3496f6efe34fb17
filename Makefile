# Doorward. Every target sets itself up on a fresh machine: a virtual environment in .venv with the
# tested versions of constraints.txt, made once and renewed when pyproject.toml or constraints.txt
# changes. Choose the interpreter with `make PYTHON=python3.12 test`.

PYTHON ?= python3
VENV   ?= .venv
OUT    ?= demo-report
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help demo test test-slow lint format docs tables clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(READY)  ## the life of a model, in minutes: train, mark, prove, poison, report (OUT=demo-report)
	@$(BIN)/doorward demo --out $(OUT)

test: $(READY)  ## all tests but the slow studies
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow"

test-slow: $(READY)  ## the studies and long checks
	@$(BIN)/python -m pytest -q -m slow

lint: $(READY)  ## style, formatting, types and the layers of the design
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY)  ## let ruff put the files in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(READY)  ## the documentation site, into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

tables: $(READY)  ## renew the tables of README and docs from the registries
	@$(BIN)/python docs/tables.py

clean:  ## remove what was built, the environment included
	rm -rf $(VENV) site demo-report build dist .mypy_cache .ruff_cache .pytest_cache

# The stamp is written last: an interrupted installation is simply done again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Doorward needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Run: make PYTHON=python3.12 ...")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
	  { echo "Making the environment $(VENV)"; rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@echo "Installing Doorward and its tools into $(VENV) (a minute or two)"
	@$(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check --prefer-binary \
	  -c constraints.txt -e '.[dev]'
	@touch $@
