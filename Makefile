# All that a developer runs. Needs Python 3.10 or newer with venv, GCC or Clang, and make.
#
#   PYTHON=python3.12   another Python (with VENV=.venv312 to keep the first one's environment)
#   CC=clang            another compiler
#   PYTEST='-k name'    arguments for pytest
#   JOBS=1              tests at a time; by default one for each core
#   TORCH_INDEX=        take PyTorch from PyPI alone; by default PyTorch's own index of CPU builds is asked
#                       too, because PyPI's Linux build brings gigabytes of CUDA

PYTHON ?= python3
VENV ?= .venv
PEERS_VENV ?= .venv-peers
TORCH ?= torch==2.13.0
TORCHVISION ?= torchvision==0.28.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PYTEST ?=
JOBS ?= auto

BIN := $(VENV)/bin
PEERS_BIN := $(PEERS_VENV)/bin
CYTHON := $(wildcard fastconv/*.pyx fastconv/*/*.pyx fastconv/*/*.pxd fastconv/*/*.pxi)
BUILD_INPUTS := setup.py pyproject.toml $(wildcard fastconv/kernels/*.h) $(CYTHON)
INSTALL_TORCH = install $(TORCH) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help demo test test-long test-zoo lint bench bench-peers bench-zoo docs pictures dist clean distclean
.DELETE_ON_ERROR:

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.engine  ## build, then read the digits in examples/digits
	$(BIN)/fastconv predict models/lenet.npz examples/digits/*.png

test: $(VENV)/.dev  ## build, then run the tests (with PyTorch, which they compare with)
	$(BIN)/pytest -n $(JOBS) $(PYTEST)

test-long: $(VENV)/.dev  ## the soaks and the fuzzing, too: many minutes
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -n $(JOBS) $(PYTEST) -m "not zoo"

test-zoo: $(VENV)/.dev  ## whole networks of torchvision and timm: 13 GB of memory; rewrites docs/operators.md
	$(BIN)/pip install --group zoo
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup -m zoo --networks=docs/networks.json $(PYTEST)
	$(BIN)/python docs/operators.py

lint: $(VENV)/.dev  ## ruff, cython-lint and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint $(CYTHON)
	$(BIN)/mypy

bench: $(VENV)/.dev  ## time each kernel against the machine's peak, and the model as a whole
	$(BIN)/python benchmarks/kernels.py tile
	$(BIN)/python benchmarks/kernels.py layers models/lenet.npz
	$(BIN)/fastconv bench models/lenet.npz

bench-peers: $(PEERS_VENV)/.peers  ## compare with the other engines; rewrites the README's tables
	$(PEERS_BIN)/python benchmarks/peers.py
	$(PEERS_BIN)/python benchmarks/peers.py --isa v3
	$(PEERS_BIN)/python benchmarks/report.py
	$(PEERS_BIN)/python benchmarks/lightness.py

bench-zoo: $(PEERS_VENV)/.peers  ## the same with fourteen large networks; needs 12 GB of memory
	$(PEERS_BIN)/pip install --no-deps $(TORCHVISION)
	$(PEERS_BIN)/python benchmarks/peers.py --suite zoo
	$(PEERS_BIN)/python benchmarks/peers.py --suite zoo --isa v3
	$(PEERS_BIN)/python benchmarks/report.py

docs: $(VENV)/.dev  ## write docs/operators.md anew, from the tables in the code
	$(BIN)/python docs/operators.py

pictures: $(VENV)/.engine  ## redraw the README's picture of the command line
	$(BIN)/python docs/terminal_picture.py

dist: $(VENV)/.dev  ## build the source distribution and the wheel, check and try both
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python .ci/check_dist.py dist

clean:  ## remove what was built; the virtual environments stay
	rm -rf build dist fastconv.egg-info fastconv/kernels/generic fastconv/kernels/x86_64_*
	rm -f $(foreach kind,so c html,fastconv/*.$(kind) fastconv/*/*.$(kind))
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -f $(VENV)/.engine $(VENV)/.dev $(PEERS_VENV)/.peers

distclean: clean  ## remove the virtual environments as well
	rm -rf $(VENV) $(PEERS_VENV)

# --- environments: a stamp in each says that it is complete ---------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "fastconv needs Python 3.10 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) cannot make virtual environments (Debian: apt install python3-venv)"; exit 1; }
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.engine: $(BUILD_INPUTS) | $(BIN)/python
	@echo "Compiling the kernels takes a minute or two."
	$(BIN)/pip install --editable '.[cli]'
	@$(BIN)/fastconv config
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.engine
	$(BIN)/pip $(INSTALL_TORCH)
	$(BIN)/pip install --group dev
	$(BIN)/pip install --no-deps $(TORCHVISION)
	@touch $@

$(PEERS_VENV)/.peers: benchmarks/requirements-peers.txt $(BUILD_INPUTS) $(wildcard fastconv/*.py fastconv/*/*.py fastconv/*/*/*.py)
	test -x $(PEERS_BIN)/python || $(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_BIN)/pip $(INSTALL_TORCH)
	$(PEERS_BIN)/pip install -r benchmarks/requirements-peers.txt
	$(PEERS_BIN)/pip install .
	@touch $@
