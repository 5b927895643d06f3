# Everything lives in .venv and .state; nothing but Python 3.11+ and git is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCO := .state/benco

# Of pip's many lines, those that show how far it is.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
SHOW_PIP := | grep --line-buffered -E '^ *(Downloading|Building|Installing|Successfully|ERROR)' | cut -c1-100

# Threads that spin while they wait cost a small machine its other core.
export OMP_WAIT_POLICY = PASSIVE
export DVC_NO_ANALYTICS = 1
export DO_NOT_TRACK = 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test verify containers lint bench clean install

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt infra/s3-server.txt
	@echo "Installing into $(VENV): 3 to 10 minutes and, where the package index has only the CUDA"
	@echo "build of torch, about 7 GB. An index with CPU builds, named in PIP_EXTRA_INDEX_URL, saves 6 GB."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]" $(SHOW_PIP)
	$(PYTHON) -m venv $(VENV)/s3
	$(VENV)/s3/bin/python -m pip install --quiet --requirement infra/s3-server.txt
	touch $@

demo: install data/demo/dataset.yaml ## photos and boxes to a registered, gated, usable model
	$(BIN)/iml run --commit
	$(BIN)/iml predict data/demo/photos/00048-removal-gatewayof-india.jpg --out runs/predict
	@echo
	@echo "Pictures:   runs/predict/  runs/pseudo_label/contact_sheet.png  runs/evaluate/demo/photos.html"
	@echo "Reports:    runs/validate/report.html  runs/evaluate/demo/report.html"
	@echo "Model:      runs/export/ and the registry: $(BIN)/iml model show boxpromptiml@champion"

# DVC fetches the demo's photos from data/demo-remote: the same bytes on every machine.
data/demo/dataset.yaml: data/demo.dvc | install
	$(BIN)/dvc pull --remote demo data/demo.dvc
	touch $@

test: install ## the whole suite
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadfile --durations=15

verify: install $(BENCO)/IMDLBenCo ## the suite with its long campaigns in full; what they counted goes to docs/VERIFY.md
	IMDLBENCO=$(CURDIR)/$(BENCO) $(BIN)/python -m pytest --campaigns --report docs/VERIFY.md

containers: install ## the images of infra/, built and run (root; podman, buildah, runc, mmdebstrap)
	$(BIN)/python -m pytest --campaigns tests/e2e/test_containers.py

# Its metric code is compared with ours; its pins do not fit ours, so it lies in its own folder.
$(BENCO)/IMDLBenCo: | install
	$(BIN)/python -m pip install --quiet --no-deps --target $(BENCO) imdlbenco yacs

lint: install
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install ## the pipeline's speed, as ratios measured in one run
	$(BIN)/python -m benchmarks pipeline

clean: ## results and caches; never the store, ledger, keys or remote
	rm -rf runs .state/cache .pytest_cache .mypy_cache .ruff_cache
