# Everything runs in a virtual environment that the targets below make on first use.
#
#   PYTHON        the interpreter that makes it (3.11 or later)
#   VENV          where it is
#   TORCH         what is installed as torch, before anything else can pull in a larger build
#   TORCH_INDEX   another package index for torch alone, such as https://download.pytorch.org/whl/cpu
#   ATRI_SHARED   folder of reference numbers and recordings; tests that need it skip where it is missing
#   EXTRAS        what the tests are installed with; tests of an extra that is not there skip
#   ARGS          more arguments for the command of a target

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
ATRI_SHARED ?= ../shared
EXTRAS ?= test,quality,docs,av,onnx,peft,sentence-transformers,mteb,search,ray
ARGS ?=

BIN := $(VENV)/bin
LOWEST := $(VENV)-lowest
# Tests of one file share what they build, so that a file stays on one process. tests/conftest.py orders the files.
PARALLEL := --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip install --constraint requirements/constraints.txt
# Top-level folders that are installed as packages inside modeling_atri.
SUBPACKAGES := $(filter-out modeling_atri,$(patsubst %/__init__.py,%,$(wildcard */__init__.py)))
SPACE := $(subst ,, )
REQUIREMENTS := setup.py pyproject.toml requirements/constraints.txt

export ATRI_SHARED

.DEFAULT_GOAL := help
.PHONY: FORCE $(shell grep -oE '^[a-z-]+:.*##' Makefile | cut -d: -f1)

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo
	@echo "  Variables: PYTHON VENV TORCH TORCH_INDEX ATRI_SHARED EXTRAS ARGS (see the top of the Makefile)"

quickstart: install  ## Install, then train, evaluate and query a small model on generated soundscapes
	$(BIN)/atri quickstart $(ARGS)

install: $(VENV)/.installed  ## Make the virtual environment and install the package into it

install-dev: $(VENV)/.installed-dev  ## Install also what the tests, quality checks and documentation need

test: quality docs  ## Install, check the quality of the code, build the documentation, run the default tests
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not browser" $(ARGS)

test-fast: install-dev  ## Run the default tests that are not marked heavy, in less than a minute on two cores
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not heavy and not browser" $(ARGS)

test-lowest: $(LOWEST)/.installed  ## Run the default tests with the oldest allowed versions of direct dependencies
	$(LOWEST)/bin/python -m pytest $(PARALLEL) -m "not slow and not browser" $(ARGS)

test-slow: install-dev  ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow --timeout 3600 $(ARGS)

test-faults: install-dev  ## Kill training runs 20 times and more, and fill disks; nothing may be lost
	$(BIN)/python -m pytest tests/trainer/run/test_faults.py -m "" -s --timeout 3600 $(ARGS)

test-browser: install-dev  ## Use the page in Chromium; skips where no browser is installed
	$(BIN)/python -m pytest tests/browser -m browser -rs --numprocesses 2 --dist load $(ARGS)

test-common: install-dev  ## Run the common tests of transformers on our classes; downloads them once
	$(BIN)/python tests/common/fetch.py
	ATRI_COMMON_TESTS=1 RUN_SLOW=1 $(BIN)/python -m pytest tests/common -q -m "" $(ARGS)

quality: lint types  ## Check lint rules, formatting and types

lint: install-dev  ## Check lint rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: build/types.txt  ## Fail on type errors that are not in requirements/mypy-baseline.txt
	$(BIN)/mypy-baseline filter < $<

types-baseline: build/types.txt  ## Write the present type errors to requirements/mypy-baseline.txt
	$(BIN)/mypy-baseline sync < $<

# mypy finds the packages under their installed names through a folder of links. It exits with 1 if there are errors.
build/types.txt: install-dev FORCE
	@rm -rf build/typed && mkdir -p build/typed/modeling_atri
	@ln -s $(addprefix $(CURDIR)/,$(wildcard modeling_atri/*) $(SUBPACKAGES)) build/typed/modeling_atri
	cd build/typed && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml -p modeling_atri > types.txt \
		|| [ $$? -eq 1 ] || { cat types.txt; exit 1; }
	@sed -E 's#^modeling_atri/($(subst $(SPACE),|,$(SUBPACKAGES)))/#\1/#' build/typed/types.txt > $@

format: install-dev  ## Apply automatic fixes and the formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install-dev  ## Build the documentation into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -E -q -n -W --keep-going -b html docs docs/_build/html

bench: install-dev  ## Run every benchmark and make the table of docs/results/speed.md
	$(BIN)/python benchmarks/table.py $(ARGS)

bench-scale: install-dev  ## Measure large sizes in up to 20 minutes, and make the table of docs/results/scale.md
	$(BIN)/python benchmarks/scale.py $(ARGS)

bench-gpu: install-dev  ## Measure step time and peak memory in the paper's setting on a GPU
	$(BIN)/python benchmarks/gpu.py $(ARGS)

gpu-plan: install-dev  ## Do all that needs a GPU, in at most nine minutes, and keep the figures
	$(BIN)/python benchmarks/gpu_plan.py $(ARGS)

clean:  ## Remove the virtual environment, caches and build output
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	@touch $@

$(VENV)/.installed: $(VENV)/.torch $(REQUIREMENTS)
	$(PIP) --editable '.[search]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.torch $(REQUIREMENTS)
	$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.installed

$(LOWEST)/.installed: $(REQUIREMENTS)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(LOWEST)/bin/python -m pip install uv
	$(LOWEST)/bin/uv pip install --python $(LOWEST) --resolution lowest-direct --editable '.[$(EXTRAS)]'
	@touch $@
