# Everything a developer does, each from a fresh clone: the first command builds .venv, the rest find it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# One thread a test process, so that processes on few cores do not wait for each other.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
WORKERS ?= auto

.PHONY: setup quickstart test test-slow check format lint types bench-train bench-encoder bench-decode bench-beam bench-vectors bench-clean bench-finetune clean help

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## Build .venv with everything that development and the tests need

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "langmill needs Python 3.10 or newer"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

quickstart: setup  ## Train, score and sample a small model on this machine, in minutes
	$(BIN)/langmill quickstart

test: setup  ## Run the test suite (under 10 minutes on 2 cores)
	$(TEST_ENV) $(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow"

test-slow: setup  ## Run the long tests
	$(BIN)/python -m pytest -q -m slow

check: format-check lint types test  ## Everything that CI runs: format, lint, types, import layers, tests

format: setup  ## Format the code
	$(BIN)/ruff format langmill tests benchmarks
	$(BIN)/ruff check --fix langmill tests benchmarks

.PHONY: format-check
format-check: setup
	$(BIN)/ruff format --check langmill tests benchmarks

lint: setup  ## Lint
	$(BIN)/ruff check langmill tests benchmarks

types: setup  ## Check types
	$(BIN)/mypy

bench-train: setup  ## Training against named peers: TRAIN=FILE HELD_OUT=FILE of tiny Shakespeare
	$(if $(TRAIN),$(BIN)/python benchmarks/time_to_loss.py --train $(TRAIN) --held-out $(HELD_OUT),@echo "time to loss is left out: it wants TRAIN=FILE HELD_OUT=FILE")
	$(BIN)/python benchmarks/throughput.py

bench-encoder: setup  ## BERT-base on padded batches, against Transformers
	$(BIN)/python benchmarks/encoder.py

bench-beam: setup  ## Beam search of a Marian, against named peers
	$(BIN)/python benchmarks/beam.py

bench-decode: setup  ## Tokens a second in generation, against named peers
	$(BIN)/python benchmarks/decode.py

bench-vectors: setup  ## Word vectors against gensim and fastText: CORPUS=FILE of 20 MB or more [BENCHMARKS=DIR]
	$(if $(CORPUS),,$(error bench-vectors wants CORPUS=FILE, a text of 20 MB or more))
	$(BIN)/python benchmarks/vectors.py --corpus $(CORPUS)
	$(if $(BENCHMARKS),$(BIN)/python benchmarks/vectors.py --corpus $(CORPUS) --quality --benchmarks $(BENCHMARKS))

bench-finetune: setup  ## Fine-tuning a classifier against Trainer: CHECKPOINT=FOLDER TRAIN=FILE DEV=FILE of labelled rows
	$(if $(and $(CHECKPOINT),$(TRAIN),$(DEV)),,$(error bench-finetune wants CHECKPOINT=FOLDER TRAIN=FILE DEV=FILE))
	$(BIN)/python benchmarks/finetune.py --checkpoint $(CHECKPOINT) --train $(TRAIN) --dev $(DEV)

bench-clean: setup  ## Cleaning against datatrove: CORPUS="FILE…" of English text
	$(if $(CORPUS),,$(error bench-clean wants CORPUS="FILE…"))
	$(BIN)/python benchmarks/cleaning.py --corpus $(CORPUS) --size-mb 20
	$(BIN)/python benchmarks/cleaning.py --corpus $(CORPUS) --size-mb 1000 --only langmill

clean:  ## Delete the environment and what tools left
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
