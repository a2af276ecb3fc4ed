# make run     set up, bootstrap if there is no model, and serve
# make test    set up and test          make check   lint, types and import contracts
# make test-fast  the tests that need no server or browser, under a minute
# make demo    play the generated stream against the running server

PYTHON ?= $(shell command -v python3.11 || command -v python3)
HOME_DIR ?= .
DATA ?= $(HOME_DIR)/data/raw.csv
TARGET ?= Production
PORT ?= 8000
MONITOR_PORT ?= 8050
WORKERS ?= 1
SPEED ?= 200
KILLS ?= 200
URL ?= http://127.0.0.1:$(PORT)

VENV := .venv
BIN := $(VENV)/bin
MODELS = $(wildcard $(HOME_DIR)/models/model_v*.json)

.PHONY: setup setup-dev bootstrap run demo test test-fast check bench-forest bench-speed soak bench-accuracy bench-drift torture poison lock clean
.DELETE_ON_ERROR:

setup: $(VENV)/.runtime
setup-dev: $(VENV)/.dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-dev.lock
	@touch $@

$(HOME_DIR)/data/raw.csv: | setup
	$(BIN)/millrace bootstrap generate --home $(HOME_DIR)

bootstrap: setup $(DATA)
	$(BIN)/millrace bootstrap --home $(HOME_DIR) --data $(DATA) --target $(TARGET)

run: setup $(if $(MODELS),,bootstrap)
	$(BIN)/millrace serve --home $(HOME_DIR) --port $(PORT) --monitor-port $(MONITOR_PORT) --workers $(WORKERS)

demo: setup
	$(BIN)/python scripts/demo.py --home $(HOME_DIR) --url $(URL) --speed $(SPEED)

test: setup-dev
	$(BIN)/pytest

# what needs no server, browser, container or other process: under a minute on two cores
test-fast: setup-dev
	$(BIN)/pytest -m "not server and not browser and not containers and not slow"

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile.server docker/Dockerfile.monitor

# hours: River's ensembles are slow; it goes on where it was interrupted
bench-forest: setup-dev
	$(BIN)/python -m scripts.bench.bench_forest

# hours too; without MILLRACE_STREAMS the generated stream
bench-accuracy: setup-dev
	$(BIN)/python -m scripts.bench.bench_accuracy

# minutes; the machine should have nothing else to do
bench-speed: setup-dev
	$(BIN)/python -m scripts.bench.bench_speed

# an hour or so: the learner's memory over a million labels
soak: setup-dev
	$(BIN)/python -m scripts.bench.soak

# minutes
bench-drift: setup-dev
	$(BIN)/python -m scripts.bench.bench_drift

# kills processes and spoils files while a client predicts and labels, then checks that nothing was lost
torture: setup $(if $(MODELS),,bootstrap)
	$(BIN)/python -m scripts.chaos.torture --home $(HOME_DIR) --kills $(KILLS)

# the error on clean rows with poison among the labels, beside a run without it
poison: setup $(if $(MODELS),,bootstrap)
	$(BIN)/python -m scripts.chaos.poison --home $(HOME_DIR)

# the lock files name versions and hashes, never where they came from
lock: setup-dev
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) .import_linter_cache dist .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
