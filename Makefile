# Nothing is needed but python3, pip and make.
#   make demo    a synthetic volume, segmented and scored, in ./demo
#   make test    what CI runs
#   make fix     let ruff fix what it can
#   make docs    docs/stages.md, and the API pages in ./site
#   make bench   timings (minutes)
#   make soak    500 runs killed, paused, taken over and changed at random (an hour)
#   make fuzz    5,000 damaged files, each refused or read rightly (half an hour)

PYTHON ?= python3
BIN := .venv/bin
CODE := volflow tests examples benchmarks docs
BENCHMARKS := segmentation.kernels engine.overhead "engine.memory maps" \
	"engine.memory reductions 320" segmentation.horizon "segmentation.horizon surfaces" \
	segmentation.sweep engine.share engine.malloc "engine.scale 1000000" engine.ledger
.DEFAULT_GOAL := help
.PHONY: help env demo test lint docs bench soak fuzz fix clean

help:
	@sed -n '2,8s/^# *//p' Makefile

env: .venv/.made

# Made again only when the requirements may have changed. Where Python has no ensurepip (Debian has
# it in python3-venv) the available pip fills the new environment.
.venv/.made: pyproject.toml constraints.txt
	@echo "== environment (.venv), a minute or two"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv 2>/dev/null || $(PYTHON) -m venv --without-pip .venv
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then pip="$(BIN)/python -m pip"; \
	else pip="$(PYTHON) -m pip --python $(BIN)/python"; fi; \
	for pause in 5 20 none; do \
		$$pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 \
			-c constraints.txt --editable '.[test,view,docs]' && break; \
		test $$pause != none || exit 1; \
		echo "pip failed; next try in $$pause s"; sleep $$pause; \
	done
	@touch $@

demo: env
	@$(BIN)/volflow demo

test: lint
	@echo "== tests"
	@$(BIN)/pytest -q -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder -rfE --tb=short

lint: env
	@echo "== ruff format"
	@$(BIN)/ruff format --check $(CODE)
	@echo "== ruff check"
	@$(BIN)/ruff check $(CODE)
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== layers"
	@$(BIN)/lint-imports

bench: env
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[test,bench]'
	@for script in $(BENCHMARKS); do \
	echo "== $$script"; $(BIN)/python -m benchmarks.$$script || exit 1; done

soak: env
	@$(BIN)/python -m tests.soak 500

fuzz: env
	@$(BIN)/python -m tests.fuzz 5000

docs: env
	@$(BIN)/python docs/make_stages.py
	@$(BIN)/python -W ignore::UserWarning -m pdoc volflow --docformat numpy --no-include-undocumented \
		--no-show-source --output-directory site
	@echo site/index.html

fix: env
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

clean:
	rm -rf .venv demo site .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
