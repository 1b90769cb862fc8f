# Every target installs what it needs; a .venv that is already right is reused as it is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo up down test check bench image

help:  ## print the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "modelkeep needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": call make PYTHON=python3.11 (or newer)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing modelkeep into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[infra,model,local,dev]'
	@touch $@

demo: $(STAMP)  ## the whole story on one machine: train, publish, deploy, call, guard, clean end
	@$(BIN)/modelkeep demo

up: $(STAMP)  ## the local stack, left running
	@$(BIN)/modelkeep local up --detach

down: $(STAMP)  ## stop the local stack
	@$(BIN)/modelkeep local down

check: $(STAMP)  ## ruff, ruff format, mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test: $(STAMP)  ## every test
	@$(BIN)/python -m pytest

bench: $(STAMP)  ## measure what must be fast; results go to bench/results/
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

image:  ## build the container image, where a builder is there
	@if command -v buildah >/dev/null; then buildah build --file model_image/Dockerfile --tag modelkeep/model-server .; \
	elif docker info >/dev/null 2>&1; then docker build --file model_image/Dockerfile --tag modelkeep/model-server .; \
	else echo "no builder here: install buildah or start a Docker engine, then call 'make image' again" >&2; exit 1; fi
