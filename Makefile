# One virtual environment, .venv, with two stages: what the service needs (make run) and what
# development needs (everything else). A stage is installed again when its lock, pyproject.toml
# or the checkout's own path has changed; its stamp carries a checksum of the three.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check bench docs lock clean environment js

# Someone else's active environment must not leak into ours.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_USER

PYTHON_CANDIDATES := $(PYTHON) python3.13 python3.12 python3.11 python3 python
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input --quiet

runtime_key := $(shell { pwd; cat pyproject.toml requirements.lock; } | cksum | cut -d ' ' -f 1)
dev_key := $(shell { pwd; cat pyproject.toml requirements-dev.lock; } | cksum | cut -d ' ' -f 1)
DEV := .venv/.dev-$(dev_key)
# What development needs contains what the service needs.
RUNTIME := $(or $(wildcard $(DEV)),.venv/.runtime-$(runtime_key))

WORKERS ?= 2

define find_python
found= novenv=; \
for candidate in $(PYTHON_CANDIDATES); do \
  "$$candidate" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
  if "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then found=$$candidate; break; fi; \
  novenv=$$candidate; \
done; \
if [ -z "$$found" ]; then \
  if [ -n "$$novenv" ]; then \
    echo "make: $$novenv has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
  else \
    echo "make: Slackwater needs Python 3.11 or newer; none of '$(strip $(PYTHON_CANDIDATES))' is." >&2; \
    echo "make: install one, or name it: make PYTHON=/path/to/python3 run" >&2; \
  fi; \
  exit 1; \
fi
endef

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run: $(RUNTIME) ## Start the service in development mode and print its address
	@exec env SLACKWATER_MODE="$${SLACKWATER_MODE:-development}" $(PY) -m service $(ARGS)

test: $(DEV) js ## Run the tests (ARGS="-k drain", WORKERS=0 for one process)
	@$(PY) -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

check: $(DEV) ## Format, lint, types, import contracts, spelling, docs
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -c 'from importlinter.cli import lint_imports_command as run; run()' --no-logo
	$(PY) -m codespell_lib
	@site=$$(mktemp -d) && trap 'rm -rf "$$site"' EXIT && set -x && \
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --site-dir "$$site"

bench: $(DEV) ## Compare speed and memory with stock Litestar, in one run
	@$(PY) -m tests.bench $(ARGS)

docs: $(DEV) ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

lock: $(DEV) ## Write the lock files again (ARGS=--upgrade for newer versions)
	@for extra in "" deploytool dev; do \
	  $(PY) -m uv pip compile pyproject.toml --universal --python-version 3.11 --group build $${extra:+--extra $$extra} \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet $(ARGS) \
	    --output-file "requirements$${extra:+-$$extra}.lock" || exit 1; \
	done

clean: ## Remove everything that was built or cached, and .venv
	@rm -rf .venv build dist site .cache .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
	  .pytest_cache .ruff_cache tests/js/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment: $(DEV) ## Make the development environment and nothing else

# npm's own clients for the tests in JavaScript; without npm those tests are skipped, except in CI.
js:
	@if [ -f tests/js/package-lock.json ] && command -v npm >/dev/null 2>&1; then \
	  if [ ! -e tests/js/node_modules/.package-lock.json ] || \
	     [ tests/js/package-lock.json -nt tests/js/node_modules/.package-lock.json ]; then \
	    npm --prefix tests/js ci --no-audit --no-fund --loglevel=error || [ "$${CI:-}" != true ]; \
	  fi; \
	fi

# A virtual environment that does not answer (a half-made one, or one whose Python is gone) is made anew.
.venv/.made:
	@if ! $(PY) -c 'import sys, pip; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	  $(find_python); \
	  rm -rf .venv && echo "making .venv with $$found" >&2 && "$$found" -m venv .venv; \
	fi
	@touch $@

.venv/.runtime-$(runtime_key): .venv/.made
	@echo "installing what the service needs" >&2
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@rm -f .venv/.runtime-* && touch $@

$(DEV): .venv/.made
	@echo "installing what development needs" >&2
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@rm -f .venv/.dev-* && touch $@
