# Every target sets up .venv from nothing first. pip's own environment variables (PIP_INDEX_URL,
# PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, ...) are honoured.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test slow fuzz lint format bench clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)  ## the main job on models trained on the spot
	$(BIN)/kdaudit demo $(ARGS)

test: $(STAMP)  ## the default tests; ARGS go to pytest
	$(BIN)/pytest -n auto --dist loadfile $(ARGS)

slow: $(STAMP)  ## the simulations behind the statistics
	$(BIN)/pytest -m slow $(ARGS)

fuzz: $(STAMP)  ## every parser on broken input, ten minutes in all; FUZZ_SECONDS says otherwise
	$(BIN)/pytest -m fuzz tests/fuzz $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(STAMP)  ## time and memory; ARGS go to each benchmark
	for benchmark in tests/benchmarks/*.py; do $(BIN)/python $$benchmark $(ARGS) || exit 1; done

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
