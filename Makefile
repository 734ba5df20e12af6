# make demo    films a photograph badly, restores the film and compares, in demo/; needs nothing else
#              (CLIP=/path/to/video.mp4 restores a video of yours instead)
# make test    the tests that take seconds; make test-slow: those that take minutes. What is not here
#              (../shared, a GPU, a browser) is named at the end, with the number of skipped tests.
# make check   format, lint, types
#
# Each installs into .venv what it needs: the demo this package alone, the others also its tools.
#
# PYTHON=/path/to/python3.12 make ... where no suitable Python is found.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
# Python compiles what it imports; compiling all that is installed would take a minute more.
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --no-compile -c constraints.txt
CLIP ?=
PYTEST_ARGS ?=

.PHONY: demo test test-slow check venv clean
.DELETE_ON_ERROR:
# One installation at a time.
.NOTPARALLEL:

demo: $(INSTALLED)
ifeq ($(CLIP),)
	$(BIN)/vqfr-media demo --output demo
else
	@mkdir -p demo
	$(BIN)/vqfr-media restore "$(CLIP)" --output demo/out.mp4
	$(BIN)/vqfr-media compare "$(CLIP)" demo/out.mp4 --output demo/before_after.png --mode faces
endif

# Two processes share the cores: each computes with one thread, and so does what it starts. Hundreds
# of child processes import torch: were Python told not to keep what it compiles, as it may be in a
# container, that would take minutes.
test test-slow: export PYTHONDONTWRITEBYTECODE =

test: $(INSTALLED_DEV)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile \
	  --max-worker-restart 0 $(PYTEST_ARGS)

test-slow: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

check: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

venv: $(INSTALLED_DEV)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e .
	@touch $@

$(INSTALLED_DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	@touch $(INSTALLED) $@

# A candidate is believed only once it has run: python3.12 may be a pyenv shim without a Python
# behind it, and a distribution's python3 may lack what venv needs.
$(BIN)/python:
	@fits='import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 12))'; \
	if [ -n "$(PYTHON)" ]; then set -- "$(PYTHON)"; else \
	  set -- python3.12 python3.13 python3.14 python3 \
	    "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; fi; \
	for candidate do \
	  if "$$candidate" -c "$$fits" >/dev/null 2>&1; then \
	    echo "$$candidate -m venv $(VENV)"; exec "$$candidate" -m venv $(VENV); fi; done; \
	if [ -n "$(PYTHON)" ]; then echo "make: $(PYTHON) is no Python 3.12 or newer with the venv module" >&2; \
	else echo "make: no Python 3.12 or newer with the venv module was found; install Python 3.12" \
	  "(pyenv install 3.12, or python3.12 and python3.12-venv from your distribution)," \
	  "or say where it is: PYTHON=/path/to/python3.12 make test" >&2; fi; exit 3

clean:
	rm -rf demo dist .pytest_cache .mypy_cache .ruff_cache
	find vqfr_media engines plugins training tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
