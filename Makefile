# Every target sets up what it needs: a virtual environment in .venv with the versions of constraints.txt.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PAYMENTS ?=
TRANSACTIONS ?=
REPORT ?=
BENCH ?=
LARGE ?=
.DEFAULT_GOAL := help
.PHONY: help demo run test check bench bench-peers bench-large docs
# Peers that are packages of their own, each with its versions in benchmarks/peers/NAME.txt and its environment in .venv-peers/NAME.
PEERS := $(patsubst benchmarks/peers/%.txt,%,$(wildcard benchmarks/peers/*.txt))

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

demo: .venv/demo ## the fraud story, end to end: PAYMENTS=N or TRANSACTIONS=FILE, REPORT=FILE
	@$(BIN)/headrace demo $(if $(PAYMENTS),--payments $(PAYMENTS)) $(if $(TRANSACTIONS),--transactions '$(TRANSACTIONS)') $(if $(REPORT),--report '$(REPORT)')

run: .venv/demo ## start the fraud system and keep it running; Ctrl-C stops it
	@exec $(BIN)/headrace run examples/fraud/system.py

test: .venv/dev ## the tests, but for the slow ones
	@$(BIN)/python -m pytest $(PYTEST)

check: .venv/dev ## lint, format, types, import contracts, shape
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest tests/test_shape.py tests/house

bench: .venv/dev ## the benchmarks, each side by side with its peer: BENCH="--small --runs N --figures FILE"
	@for benchmark in start windows joins request reads serving streaming ingest 'joins --scaling'; do \
	  echo "benchmarks/$$benchmark" >&2; set -- $$benchmark; $(BIN)/python benchmarks/$$1.py $${@:2} $(BENCH) || exit 1; done

bench-peers: .venv/dev $(PEERS:%=.venv-peers/%/ready) ## those against peers that need an environment of their own: BENCH as above
	@for benchmark in joins reads streaming 'joins --rows 10000000 --friendly --runs 3'; do \
	  echo "benchmarks/$$benchmark" >&2; set -- $$benchmark; $(BIN)/python benchmarks/$$1.py --peers $${@:2} $(BENCH) || exit 1; done

bench-large: .venv/dev ## the backfill of 1e8 events within 6 GB: LARGE="--events N --memory SIZE --folder DIR"
	@$(BIN)/python benchmarks/large.py $(LARGE)

docs: .venv/dev ## write the generated pages again: architecture, permissions, commands
	@$(BIN)/python scripts/pages.py

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "headrace needs Python 3.11 or newer, \`$(PYTHON)\` is $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "hint: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "hint: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@touch $@

.venv/demo: .venv/python pyproject.toml constraints.txt
	@echo "installing headrace into .venv" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train]'
	@$(BIN)/python -m compileall -q src
	@touch $@

.venv/dev: .venv/demo
	@echo "installing what tests need into .venv" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# A peer that cannot be installed here reads `not measured`; the next call tries again.
.venv-peers/%/ready: benchmarks/peers/%.txt
	@echo "installing $* into .venv-peers/$*" >&2
	@$(PYTHON) -m venv .venv-peers/$*
	@.venv-peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< && touch $@ \
	  || echo "$* is not installed and so will not be measured" >&2
