# make demo   sweep GPT and CLIP on real input and draw their scaling laws
# make test   every test that needs neither a GPU nor the network
# make help   all targets

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow bench lint clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/train.stamp: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[train]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/train.stamp
	@$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/train.stamp  ## sweep GPT and CLIP, fit their laws, draw the report
	@$(BIN)/fmscale sweep experiment=gpt_demo
	@$(BIN)/fmscale sweep experiment=clip_demo
	@$(BIN)/fmscale-analysis report runs/gpt_demo runs/clip_demo --out reports/demo
	@$(BIN)/python -m experiments.demo runs reports/demo

test: $(VENV)/dev.stamp lint  ## lint, types and tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-slow: $(VENV)/dev.stamp  ## the tests that take minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

bench: $(VENV)/dev.stamp  ## measure speed, as ratios within one run
	@$(BIN)/python -m pytest -m bench -s tests/benchmarks

lint: $(VENV)/dev.stamp  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean:  ## remove the environment and caches; runs, data and reports stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
