# make demo: train and report on simulated data.  make test: the whole test suite.  make lint: style.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
WORKERS ?= 2

.PHONY: demo test quick lint clean

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "behavejax needs Python 3.11 or newer")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[data,export,dev]'
	touch $@

demo: $(VENV)/.base
	$(RUN) launch/train.py --config=configs/fsq.py --workdir=runs/fsq

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile

quick: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile -m 'not slow'

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:
	rm -rf $(VENV) build *.egg-info
