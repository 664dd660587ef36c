# make demo     search a table on digits, train DISTREAL and its rivals under the same load, leave a report in runs/quickstart/
# make test     linter, formatter, type checker, tests
# make wheel    build the wheel, install it elsewhere, run its command and check types against it
# make docs     the site, into build/site; links are checked
# make lint     linter, formatter and type checker alone
# make results  the comparisons behind README.md and docs/results.md, an hour or two on two cores; DATA_DIR= names the folder
#               that holds the data sets, CONFIGS= those of experiments/configs/ that are to be run
# make notebooks  run the notebooks in full from a clean kernel, half an hour; their outputs go into docs/notebooks/
# make clean    remove the virtual environment and all caches; results in runs/ stay
#
# Each starts from nothing but Python 3.11 to 3.13 with venv; PYTHON= names another interpreter than the first that fits.

FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11; do \
	$$candidate -c '$(FITS)' 2>/dev/null && echo $$candidate && break; done)
BIN := .venv/bin
DATA_DIR ?= data
CONFIGS ?= fashion_mnist_harsh fashion_mnist_mild fashion_mnist_skewed fashion_mnist_longer what_carries_the_gain map_of_loads

.PHONY: demo test wheel docs lint results notebooks clean
.DELETE_ON_ERROR:

demo: .venv/ready-to-run
	$(BIN)/python experiments/quickstart.py --out runs/quickstart

# Test files are shared out over processes; loadfile keeps what a file prepares once in one of them. Which files are first is
# said in tests/conftest.py: those that take longest.
test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

wheel: .venv/ready-to-test
	.ci/wheel

docs: .venv/ready-for-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

lint: .venv/ready-to-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

results: .venv/ready-to-run
	for config in $(CONFIGS); do \
		$(BIN)/python -m experiments.configs.$$config --data-dir $(DATA_DIR) --out runs/$$config || exit; \
	done
	$(BIN)/python experiments/results.py

notebooks: .venv/ready-to-test
	$(BIN)/jupyter-execute --inplace notebooks/*.ipynb
	rm -rf docs/notebooks/*
	$(BIN)/jupyter-nbconvert --to markdown --output-dir docs/notebooks notebooks/*.ipynb
	$(BIN)/nbstripout --extra-keys "$(foreach key,codemirror_mode file_extension mimetype nbconvert_exporter pygments_lexer version,\
		metadata.language_info.$(key))" notebooks/*.ipynb

# The package is installed in place: what is edited is what runs.
.venv/ready-to-run: requirements.txt pyproject.toml | .venv/bin/python
	@echo "installing what distreal_jax needs into .venv (some minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/ready-to-test: requirements-dev.txt .venv/ready-to-run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

.venv/ready-for-docs: pyproject.toml .venv/ready-to-run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "distreal_jax needs Python 3.11, 3.12 or 3.13 and found none; name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@$(PYTHON) -c '$(FITS)' || { echo "distreal_jax needs Python 3.11, 3.12 or 3.13, but '$(PYTHON)' is" \
		"$$($(PYTHON) --version 2>&1); name another: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "'$(PYTHON)' has no venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
