# The chores of this project. `make run` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check bench soak pages screenshots translations clean

run: $(VENV)/.installed
	$(BIN)/python manage.py demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m tests.run

check: $(VENV)/.installed-dev
	$(BIN)/python -m tests.run --checks-only

bench: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench

soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.soak

pages: $(VENV)/.installed-dev
	$(BIN)/python -m tests.browser.measure

screenshots: $(VENV)/.installed-dev
	$(BIN)/python -m tests.browser.screenshots

# Collects the texts of the sources into locale/, and compiles what is translated there.
translations: $(VENV)/.installed-dev
	$(BIN)/python manage.py makemessages -l fr --no-obsolete --add-location file -i .venv -i tests -i var
	$(BIN)/python manage.py compilemessages -l fr -i .venv

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed. Name it with: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing. On Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements.txt requirements-dev.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache
