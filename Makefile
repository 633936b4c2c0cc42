# `make app` and `make test` work on a fresh clone with only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: app test test-slow lint unit apptest e2e clean help

help:
	@echo "make app    install what the app needs and start the dashboard on http://127.0.0.1:8501"
	@echo "make test   install what the tests need, lint, run unit, app and browser tests"
	@echo "make test-slow  what takes long or needs optional packages: exports opened by TensorBoard and MLflow, a Ray cluster, long fault tests, many visitors"
	@echo "make lint | unit | apptest | e2e   one part of make test"
	@echo "make clean  remove the virtual environment and caches; runs and data stay"

$(VENV)/app.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "FER Lab needs Python 3.11 or newer. If another one is installed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing what the app needs. PyTorch is large (several GB on Linux), so this takes minutes and says nothing meanwhile."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/app.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/export.stamp: requirements-export.txt $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-export.txt
	touch $@

$(VENV)/ray.stamp: requirements-ray.txt $(VENV)/export.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-ray.txt
	touch $@

app: $(VENV)/app.stamp
	$(BIN)/python -m streamlit run streamlit_app.py

test: $(VENV)/dev.stamp
	$(BIN)/python -m tests.e2e.install_browser
	$(BIN)/ruff check .
	$(BIN)/python -m pytest tests -m "not slow" -n $(JOBS) --dist loadfile

test-slow: $(VENV)/ray.stamp
	$(BIN)/python -m tests.e2e.install_browser
	FER_REQUIRE_EXPORT=1 FER_REQUIRE_RAY=1 $(BIN)/python -m pytest tests -m slow

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/unit -m "not slow"

apptest: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/app -m "not slow"

e2e: $(VENV)/dev.stamp
	$(BIN)/python -m tests.e2e.install_browser
	$(BIN)/python -m pytest tests/e2e -m "not slow"

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
