.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-deps
DEMO_PHOTOS := data/sample
GPU_PHOTOS ?= data/trashnet

# Most of their time tests wait for processes to start and end. Of the levels that start some, what takes longest comes
# first, or one process would be left alone with it. A process that dies is not replaced: pytest-xdist would give the
# new one nothing to do and wait for it for ever (its issue 1378).
TEST_PROCESSES ?= 2
PYTEST := $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# PYTHON=/path/to/python picks one; left out, the first of these that is 3.11 to 3.13 and can make a venv.
PYTHON ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3)
SUPPORTED := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

# $(call quietly,COMMAND,LOG) shows what the command said only where it fails.
quietly = $(1) > $(2) 2>&1 || { status=$$?; tail -n 40 $(2) >&2; echo "failed: $(1) (all of it: $(2))" >&2; exit $$status; }

# Hundreds of processes would each compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo unit integration machines gpu test lint check format lock

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## make .venv and install the locked packages

$(BIN)/python:
	@for python in $(PYTHONS); do \
		if "$$python" -c '$(SUPPORTED)' 2>/dev/null; then exec "$$python" -m venv $(VENV); fi; \
	done; \
	echo "no Python 3.11 to 3.13 with venv among: $(PYTHONS); install one, or name it: make setup PYTHON=..." >&2; exit 2

# The lock names all that is needed, so its halves can be installed side by side, and take half the time. pip would
# compile every module there is, on one processor; a quarter of them is ever imported, and is compiled by that.
$(INSTALLED): requirements.txt pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@awk '/^[A-Za-z0-9]/ { n++ } { print > ("$(VENV)/half-" n % 2 ".txt") }' requirements.txt
	@printf '0\n1\n' | xargs -P 2 -n 1 $(SHELL) -c '$(call quietly,$(PIP) --no-compile --require-hashes -r $(VENV)/half-$$0.txt,$(VENV)/setup-$$0.log)'
	@$(call quietly,$(PIP) --no-build-isolation -e .,$(VENV)/setup.log)
	@$(call quietly,$(BIN)/python -m pip check,$(VENV)/setup.log)
	@printf 'ray.data, ray.serve, ray.tune\ntorch, torchvision, sklearn, matplotlib.pyplot\n' | xargs -P 2 -I{} $(BIN)/python -W ignore -c 'import {}'
	@touch $@

demo: setup ## render a sample set, sweep, evaluate, serve; minutes on two CPU cores
	$(BIN)/ray-trash sample --to $(DEMO_PHOTOS) --per-class 200
	$(BIN)/ray-trash run configs/quickstart.yaml --overwrite
	$(BIN)/python -m ray_trash.serve.demo runs/quickstart $(DEMO_PHOTOS)

unit: setup ## run the unit tests
	$(PYTEST) tests/unit --durations=5

test: unit integration machines ## run every test

integration: setup ## run the tests of whole processes and clusters
	$(PYTEST) tests/e2e tests/integration --durations=15

# One after another: what they wait for is a machine that is given up, and a busy one looks like that.
machines: setup ## run the tests of machines that come, die and are cut off; minutes each
	$(BIN)/python -m pytest -n 0 tests/machines --durations=0

# Each part has its minutes, ten in all, and none keeps the next from being seen.
gpu: setup ## the tests, benchmarks and a timed run that need a GPU; ten minutes on one card
	@$(BIN)/python -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "no CUDA GPU here")'
	@test -d $(GPU_PHOTOS) || $(BIN)/ray-trash fetch trashnet --to $(GPU_PHOTOS)
	@status=0; \
	timeout -k 10 100 $(BIN)/python -m pytest -n 0 -q -m gpu tests/unit || status=1; \
	timeout -k 10 310 $(BIN)/python -m benchmarks --gpu || status=1; \
	time timeout -k 10 180 $(BIN)/ray-trash run configs/trashnet.yaml --overwrite --set data.root=$(GPU_PHOTOS) \
		--set train.time_budget_min=1.5 || status=1; \
	exit $$status

check: lint ## lint, and the floor of branches that unit tests reach, which takes half as long again as they do
	$(PYTEST) -q tests/unit --cov --cov-report=

lint: setup ## rules, formatting, types, import contracts, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: setup ## format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup ## resolve pyproject.toml anew into requirements.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra heic --extra int8 --extra mlflow --extra onnx --extra optuna --extra bench --constraint constraints.txt \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-config --quiet --output-file requirements.txt
