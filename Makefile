# Every target makes its own virtual environment if there is none. Versions: constraints.txt.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2

# Some machines switch compiled files off for containers; here every child process would compile all its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help ci mcc engine containers test coverage oldest lint bench parity clean

help: ## Show what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

# torch first and pinned: a range would let pip take the newest build, with gigabytes of CUDA packages beside it.
# Of 20,000 files a quarter is ever imported; they are compiled then.
$(READY): pyproject.toml constraints.txt
	@echo "==> making $(VENV) (once; one to two minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt $$(grep -E '^torch==' constraints.txt)
	@$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

ci: $(READY) ## Take the 11 models of the ci tier through their whole lifecycle on the local AWS
	@echo "==> pytest -m ci -n $(WORKERS)"
	@$(BIN)/python -m pytest -m ci -n $(WORKERS) --junitxml=reports/junit.xml --json-report --json-report-file=reports/report.json

# One model by docker on this machine, one with a licence by CodeBuild; scripts, Dockerfile and containers are the real ones.
mcc: engine $(READY) ## Take two models through the scripts of the real generator (needs podman or docker)
	@echo "==> mlcc setup mcc"
	@$(BIN)/mlcc setup mcc
	@echo "==> pytest --mlcc-entry rt-qwen3-06b --mlcc-driver scripts"
	@$(BIN)/python -m pytest --mlcc-entry rt-qwen3-06b --mlcc-driver scripts
	@echo "==> pytest --mlcc-entry rt-llama-32-1b --mlcc-driver scripts --mlcc-build-strategy codebuild-submit"
	@$(BIN)/python -m pytest --mlcc-entry rt-llama-32-1b --mlcc-driver scripts --mlcc-build-strategy codebuild-submit

engine:
	@command -v podman docker >/dev/null || { \
	    echo "make mcc: builds and runs real containers, and neither podman nor docker is here." >&2; \
	    echo "Install one: 'sudo make containers' (Debian, Ubuntu), or your system's package 'podman'." >&2; exit 1; }

TESTS := tests_unit tests_e2e --ignore=tests_e2e/test_lifecycle.py

test: $(READY) lint ## Run the linters and every test of this project
	@echo "==> pytest, $(WORKERS) workers"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

coverage: $(READY) ## Run every test under coverage (slower; child processes are not counted)
	@$(BIN)/coverage erase && $(BIN)/coverage run -m pytest $(TESTS)
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report

# The oldest releases that pyproject.toml allows, in an environment of their own; the rest of the tests know one version only.
oldest: ## Run the plugin's tests on the oldest pytest and xdist we support
	@test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt pytest pytest-xdist pytest-timeout \
	    pytest-json-report pydantic click rich jinja2 filelock psutil boto3 pyyaml hypothesis pytest-rerunfailures pytest-randomly
	@.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@.venv-oldest/bin/python -m pytest -n $(WORKERS) tests_unit/plugin tests_unit/lifecycle

lint: $(READY) ## ruff, mypy --strict, import-linter
	@echo "==> ruff, mypy, import-linter"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

containers: ## Install podman (Debian and Ubuntu, as root), for images that need a container engine
	@.ci/containers

# The baseline of the local AWS's latency, in an environment of its own: moto wants another boto3 than we do.
MOTO := .venv-bench/bin/moto_server
$(MOTO):
	@echo "==> making .venv-bench (once; ten seconds)"
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check 'moto[dynamodb,sagemaker]==5.2.5' flask==3.1.3 flask-cors==6.0.5

bench: $(READY) $(MOTO) ## Print where the time goes, as ratios against baselines of the same run
	@PYTHONPATH=tests_e2e/shared MOTO_SERVER=$(MOTO) $(BIN)/python tests_e2e/benchmarks $(PARTS)

parity: $(READY) ## Run unmodified clients against the local AWS and write docs/parity.md, what it answers to whom
	@$(BIN)/python tests_e2e/shared/parity.py

clean: ## Forget the local AWS, its state and all caches (not the virtual environment)
	@test ! -x $(BIN)/mlcc || $(BIN)/mlcc local down
	@rm -rf .mlcc .pytest_cache .mypy_cache .ruff_cache .hypothesis reports/*.xml reports/*.json
