# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` need Python 3.10 or newer and make, nothing else. Everything goes into $(VENV).

# The first interpreter for which the pinned torch exists; `make PYTHON=/path/to/python test` overrides.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& echo $$python && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test check coverage docs bench scale zoo zoo-all zoo-listed rescue gpu harm sweep optimizers mutants chaos soak format frontend clean
.NOTPARALLEL: # one environment: two installations at once would collide

help:
	@echo 'make demo    train a network that explodes, then train it with the callbacks'
	@echo 'make test    lint, import directions, types, all tests'
	@echo 'make check   lint, types, and the tests of rules, laws and diagnosis, in less than a minute'
	@echo 'make coverage  all tests, and which lines and branches of the package they reach; under 95 % is an error'
	@echo 'make docs    build the documentation into build/docs; a warning is an error'
	@echo 'make bench   measure what the callbacks add to a step'
	@echo 'make gpu     tests and benchmarks on a GPU, in nine minutes, without an installation; OUT=FOLDER for the results'
	@echo 'make scale   simulate what watching sends on 16,384 ranks (half a minute)'
	@echo 'make zoo     measure detection, causes and false alarms on a sample of composed runs (a quarter of an hour)'
	@echo 'make zoo-all the same on all composed runs (hours); make zoo-listed on the 238 written by hand'
	@echo 'make rescue  train runs that die under every clipper, and count who rescues them'
	@echo 'make harm    what our callbacks do to the final loss of the healthy runs of the zoo'
	@echo 'make sweep   train a transformer at six learning rates under each clipper'
	@echo 'make optimizers  train beside 47 optimizers of ten packages, healthy and at 100 times their rate (half an hour)'
	@echo 'make mutants change every constant of the rules and laws, and look for a test that breaks (half an hour)'
	@echo 'make chaos   break 1,000 short runs at random, and check what must hold all the same (15 minutes)'
	@echo 'make soak    train a million steps with an alarm at each, and see whether anything grows'
	@echo 'make format  what the linter can mend by itself'
	@echo 'make frontend  build the page of the TensorBoard tab (needs Node 20)'
	@echo 'make clean   remove the environment and the caches'

demo: $(VENV)/.demo
	$(BIN)/python examples/explosion.py

test: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/pytest

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/pytest -q -m 'not slow' tests/rules tests/laws tests/lr tests/measurement tests/diagnosis tests/test_public.py

# Tests that start a process of their own take twice as long: it is followed, too.
coverage: $(VENV)/.dev
	$(BIN)/pytest --cov --cov-report=term

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet --builder html docs build/docs

# Seven minutes on a quiet machine. On a busy one the ratios hold, with a wider spread; the times do not.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.overhead --out benchmarks/results/overhead.md

# On a machine with a GPU, with the Python that is there: no environment is made, and nothing is fetched.
gpu:
	python3 -m benchmarks.gpu $(OUT)

# The collectives of 7 B, 70 B and 1 T parameters on 8, 512 and 16,384 ranks, counted.
scale: $(VENV)/.dev
	$(BIN)/python -m benchmarks.scale --out benchmarks/results/scale.md

# 30 families, 77 faults, 40 healthy variations. The table tells what rules were tuned on from what was left out.
zoo: $(VENV)/.dev
	$(BIN)/python -m benchmarks.zoo sample --out benchmarks/results/zoo.md

zoo-all: $(VENV)/.dev
	$(BIN)/python -m benchmarks.zoo all --seeds 2 --out benchmarks/results/zoo_all.md

# Every run that was written by hand, three seeds. Fails if an outcome contradicts its label.
zoo-listed: $(VENV)/.dev
	$(BIN)/python -m benchmarks.listed --out benchmarks/results/zoo_listed.md

# Every run that dies or stalls, three seeds, under each clipper.
rescue: $(VENV)/.dev
	$(BIN)/python -m benchmarks.rescue --out benchmarks/results/rescue.md

# The zoo's healthy runs, three seeds, with our five callbacks and without.
harm: $(VENV)/.dev
	$(BIN)/python -m benchmarks.rescue.harm --out benchmarks/results/harm.md

sweep: $(VENV)/.dev
	$(BIN)/python -m benchmarks.sweep --out benchmarks/results/sweep.md --picture docs/images/sweep.png

# Every optimizer, five seeds; packages are pinned in benchmarks/optimizers/requirements.txt, and bring nothing along.
optimizers: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/optimizers/requirements.txt
	$(BIN)/python -m benchmarks.optimizers --out benchmarks/results/optimizers.md

# Faults drawn from a seed; `python -m benchmarks.chaos --seed N` repeats one. Fails if an invariant is broken.
chaos: $(VENV)/.dev
	$(BIN)/python -m benchmarks.chaos --out benchmarks/results/chaos.md

# Each constant times three and by three, one at a time. Fails if one of these breaks no test.
mutants: $(VENV)/.dev
	$(BIN)/python -m benchmarks.mutants --out benchmarks/results/mutants.md

# A million steps, each with an alarm: memory, checkpoint, console and files.
soak: $(VENV)/.dev
	$(BIN)/python -m benchmarks.soak --out benchmarks/results/soak.md

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Users need no Node: the built page is in the package. CI checks that source and bundle agree.
frontend:
	cd frontend && npm ci && npm run build

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*

# torch goes first and alone, so that pip takes the exact build that the constraints name, before another package asks
# for a range. The pip of an older Python cannot read dependency groups: it is renewed first, in the environment only.
$(VENV)/.torch: constraints.txt
	@test -n '$(PYTHON)' || { echo 'No Python 3.10 to 3.14 with venv here; use make PYTHON=/path/to/python'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) pip
	$(INSTALL) torch
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable . --group examples
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable . --group dev
	@touch $@
