# Every target installs what it needs; a .venv that is already right is reused as it is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo up down test check audit bench image stack-named plan deploy destroy

help:  ## print the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "modelkeep needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": call make PYTHON=python3.11 (or newer)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing modelkeep into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[infra,model,local,data,dev]'
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
	@$(BIN)/python -m pytest -n 2

audit: $(STAMP)  ## deploy on emulators and judge what is there with prowler: STACK=local
	@$(BIN)/modelkeep audit --stack "$(or $(STACK),local)"

bench: $(STAMP)  ## measure what must be fast; results go to bench/results/
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@failed=; for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; done; \
	test -z "$$failed" || { echo "these found that something does not hold:$$failed" >&2; exit 1; }

image:  ## build the container image, where a builder is there: VARIANT=cuda (or cpu)
	@set -- --file model_image/Dockerfile --build-arg VARIANT="$${VARIANT:=cuda}" \
	  $${WHEEL_INDEX:+--build-arg WHEEL_INDEX="$$WHEEL_INDEX"} \
	  $${BASE_IMAGE:+--build-arg BASE_IMAGE="$$BASE_IMAGE"} $${BUILD_IMAGE:+--build-arg BUILD_IMAGE="$$BUILD_IMAGE"} \
	  $${PIP_CONF:+--secret id=pip.conf,src="$$PIP_CONF"} --tag "modelkeep/model-server:$$VARIANT" .; \
	if command -v buildah >/dev/null; then buildah build --format docker "$$@"; \
	elif docker info >/dev/null 2>&1; then docker build "$$@"; \
	else echo "no builder here: install buildah or start a Docker engine, then call 'make image' again" >&2; exit 1; fi

# Before anything else: nobody shall deploy or destroy another stack than meant.
stack-named:
	@test -n "$(STACK)" || { echo "name the stack, as in: make $(firstword $(MAKECMDGOALS)) STACK=dev" >&2; exit 2; }

plan: stack-named $(STAMP)  ## what a deployment would change, reviewed: STACK=dev
	@$(BIN)/modelkeep deploy plan "$(STACK)"

deploy: stack-named $(STAMP)  ## deploy to AWS, the review shown first: STACK=dev; YES=1 does not ask
	@$(BIN)/modelkeep deploy up "$(STACK)" $${YES:+--yes}

destroy: stack-named $(STAMP)  ## take a stack out of AWS: STACK=dev; YES=1 does not ask
	@$(BIN)/modelkeep deploy destroy "$(STACK)" $${YES:+--yes}
