# make demo    train the digits example in an environment of its own
# make test    run the tests there, in about four minutes on two cores
# make check   lint, formatting and types
# make docs    build the documentation into build/site, and its generated tables in docs/reference

VENV ?= .venv
PYTHON ?= python3
HARDWARE ?= $(if $(shell command -v nvidia-smi),gpu,cpu)
BIN := $(VENV)/bin
# Processes of the tests: JOBS, or one a core and one more where many tests wait for processes of their
# own; each takes 2 GiB.
CORES := $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
DEMO := .demo

PYTEST = $(BIN)/python -m pytest -n $(or $(JOBS),$(CORES)) --dist loadscope --no-loadscope-reorder

export TF_CPP_MIN_LOG_LEVEL ?= 2
# The tests start many processes; modules are compiled once, not in each of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-all check docs docs-links dist sbom licenses clean

demo: $(VENV)/.demo
	$(BIN)/python examples/mnist/train_mnist.py --model_dir $(DEMO)/digits --records_dir $(DEMO)/records

test: $(VENV)/.test
	$(PYTEST)

test-slow: CORES := $(shell echo $$(($(CORES) + 1)))
test-slow: $(VENV)/.test
	$(PYTEST) -m slow

test-all: $(VENV)/.test
	TFIC_ALL_TESTS=1 $(PYTEST)

check: $(VENV)/.dev
	scripts/check $(BIN)

docs-links: $(VENV)/.docs
	$(BIN)/python -m sphinx -b linkcheck --keep-going --quiet docs build/links

docs: $(VENV)/.docs
	$(BIN)/python scripts/write_tables.py
	$(BIN)/python -m sphinx -b html -W --keep-going -n --quiet docs build/site
	@echo "Open build/site/index.html"

# A wheel and a source archive; then the package that the wheel installs, with all it needs, as an SBOM.
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

sbom: dist
	rm -rf build/sbom && $(PYTHON) -m venv build/sbom
	build/sbom/bin/python -m pip install --quiet "$$(ls dist/*.whl)[cpu,serve]"
	$(BIN)/cyclonedx-py environment --output-format JSON --output-file build/sbom.json build/sbom/bin/python

licenses: $(VENV)/.test
	$(BIN)/python scripts/write_license_table.py

clean:
	rm -rf $(VENV) $(DEMO) dist build

# Each of these files says that the environment has the extras of its name, for this pyproject.toml.
$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is older than Python 3.10; name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.demo: $(VENV)/.venv pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[$(HARDWARE)]'
	touch $@

$(VENV)/.test: $(VENV)/.venv pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[$(HARDWARE),test]'
	touch $@

$(VENV)/.docs: $(VENV)/.venv pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[$(HARDWARE),docs]'
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
