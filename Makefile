# make demo | test | check | bench [ONLY=name] | clean      ARGS=... goes to the command that runs
VENV := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test check bench clean

demo: $(INSTALLED)
	$(VENV)/lifelong demo $(ARGS)

test: $(INSTALLED)
	$(VENV)/python -m pytest $(ARGS)

check: $(INSTALLED)
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/python -m pytest -q tests/test_architecture.py

bench: $(INSTALLED)
	$(VENV)/python -m bench $(if $(ONLY),--only $(ONLY)) $(ARGS)

clean:
	rm -rf .venv dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis build/bench

$(INSTALLED): pyproject.toml scripts/install.sh scripts/downloads.py
	scripts/install.sh
