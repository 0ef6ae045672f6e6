# Saccade: `make demo` runs the main job, `make test` passes the tests.
# Both make a virtual environment of their own; nothing else is needed but Python >= 3.11.

PYTHON ?= python3
VENV ?= .venv
SOURCE ?=
OPEN ?=
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo docs test test-slow picture check lint types contracts serve install clean

help:
	@echo "make demo [SOURCE=recording]   see it all: a server, a stream, a batch, metrics"
	@echo "make demo OPEN=1               the same, and leave the server running for its page"
	@echo "make serve                     run the server on 127.0.0.1:8000"
	@echo "make test                      the default tests (about 8 minutes on 2 slow cores)"
	@echo "make test-slow                 the rest of the tests"
	@echo "make docs                      build the documentation as a site, in outputs/site"
	@echo "make picture                   take the README's picture of the page anew"
	@echo "make check                     lint, types, import contracts and the default tests"

demo: $(VENV)/.for-use
	$(BIN)/saccade demo $(if $(OPEN),--open) $(SOURCE)

serve: $(VENV)/.for-use
	$(BIN)/saccade serve

install: $(VENV)/.for-development

test: $(VENV)/.for-development
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20

test-slow: $(VENV)/.for-development
	$(BIN)/pytest -m slow -n 2 --dist worksteal --durations 20 --ignore tests/page --ignore tests/system/test_ray.py --ignore tests/model/training/test_devices.py
	$(BIN)/pytest -m slow --durations 5 tests/model/training/test_devices.py # alone: processes that must meet in time
	$(BIN)/pytest -m slow --durations 5 tests/system/test_ray.py # alone: one cluster for all its tests
	$(BIN)/pytest -m slow --durations 10 tests/page # alone: a browser, a server and a hand that draws

docs: $(VENV)/.for-development
	$(BIN)/zensical build --clean --strict
	@echo "open outputs/site/index.html, or serve it: $(PYTHON) -m http.server --directory outputs/site"

picture: $(VENV)/.for-development
	$(BIN)/pytest -m slow tests/page -k picture_of_the_readme
	cp outputs/screenshots/readme.png docs/page.png

check: lint types contracts test

lint: $(VENV)/.for-development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile

types: $(VENV)/.for-development
	$(BIN)/mypy

contracts: $(VENV)/.for-development
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit("Saccade needs Python 3.11 or newer, not %d.%d: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.for-use: $(VENV)/bin/pip pyproject.toml constraints.txt
	@echo "installing Saccade into $(VENV) (once; a minute or two)"
	$(INSTALL) -e '.[server,terminal]'
	@touch $@

$(VENV)/.for-development: $(VENV)/bin/pip pyproject.toml constraints.txt
	@echo "installing Saccade and its tools into $(VENV) (once; a minute or two)"
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.for-use
