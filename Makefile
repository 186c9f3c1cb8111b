# Every target sets up what it needs: a virtual environment in .venv, from constraints.txt.
SHELL := bash
.SHELLFLAGS := -o pipefail -ec
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test test-slow test-all check bench results clean

help:  ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

demo: .venv/.demo  ## make speech, prepare it, train on it: three minutes, no data needed
	@echo "== prepare: espeak-ng says ten words in sixty voices; MFCC shards by two workers"
	@$(BIN)/shardwell prepare synthetic_commands --workers 2 --out demo/data --cache demo/cache | tee demo.log
	@echo "== train: a small Conv2d classifier"
	@$(BIN)/shardwell train "$$(tail -n 1 demo.log)" --epochs 8 --out demo/run
	@echo "== where everything is"
	@echo "dataset   $$(tail -n 1 demo.log)   (shards, sidecars, dataset.json)"
	@echo "archive   demo/cache/generated   (the recordings, in Speech Commands' layout)"
	@echo "run       demo/run   (the model, its log, curves and confusion matrix)"
	@echo "delete    rm -r demo"
	@rm -f demo.log

test: .venv/.dev  ## the default tests, on all cores
	$(BIN)/pytest -n auto

test-slow: .venv/.dev  ## kill, cluster, Hub and training runs
	$(BIN)/pytest -m slow

test-all: test test-slow  ## the default tests and the slow ones

check: .venv/.dev  ## format, lint, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

bench: .venv/.bench  ## the benchmarks
	$(BIN)/python -m tests.bench

results: .venv/.dev  ## train every system on real data, print the table of what they reach
	$(BIN)/python -m tests.bench results

clean:  ## remove the environment and the demo
	rm -rf .venv demo

.venv/.%: pyproject.toml constraints.txt hatch_build.py pipeline/features/kernel.c pipeline/loader/gather.c
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@
