# Everything here sets up what it needs: Python 3.11+, its venv module and make are enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Tests start many processes: with bytecode kept, none of them compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

# In a name of its own: a comma would end the argument of a call.
TO_LOOK_AT := '.[cli,web]'

# What is installed for a purpose is marked by a stamp, and installed again when pyproject.toml has changed.
STAMP = $(VENV)/.installed-$(1)

define install
	@if command -v uv >/dev/null 2>&1; then \
		test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) $(VENV); \
		uv pip install --quiet --python $(BIN)/python --editable $(1); \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable $(1); \
	fi
	@touch $@
endef

.PHONY: help demo test check bench soak clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(call STAMP,run) ## run the main example
	@$(BIN)/python examples/vision.py

test: $(call STAMP,test) ## run all tests, on asyncio and on trio
	@$(BIN)/python -m pytest -q -n auto --dist worksteal

check: $(call STAMP,check) ## ruff, mypy --strict, and the plan of the house
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_layers.py

bench: $(call STAMP,bench) ## figures, side by side with the peers, in one run
	@$(BIN)/python -m tests.benchmarks

soak: $(call STAMP,test) ## the long runs; those of channels alone by PART="tests/transports tests/rules"
	@$(BIN)/python -m pytest -q -n auto --dist worksteal -m soak --timeout 900 $(PART)

clean: ## remove what was installed and cached
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(call STAMP,run): pyproject.toml
	$(call install,$(TO_LOOK_AT))

$(call STAMP,test): pyproject.toml
	$(call install,'.[test]')

$(call STAMP,check): pyproject.toml
	$(call install,'.[check]')

$(call STAMP,bench): pyproject.toml
	$(call install,'.[bench]')
