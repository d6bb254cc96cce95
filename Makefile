# Two commands do everything: `make demo` and `make test`. Both make their own environment in .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: demo test lint prove prove-kills prove-disk soak clean

demo: $(INSTALLED)  ## generated clips -> data set -> features -> training -> dubbed videos -> leaderboard
	$(BIN)/python pipelines/demo.py --out demo

test: lint  ## everything that must hold, in under ten minutes on two cores
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

prove: $(INSTALLED)  ## the proofs that take minutes to an hour: kills, full disks, clusters, whole corpora
	$(BIN)/pytest -m slow

prove-kills: $(INSTALLED)  ## 1,000 kills at random moments, in hours; KILLS=100 is a tenth, SECONDS=1800 a limit; run it again to go on
	$(BIN)/python benchmarks/kills.py --out proofs/kills --kills $(or $(KILLS),1000) $(if $(SECONDS),--seconds $(SECONDS))

prove-disk: $(INSTALLED)  ## the disk full at every multiple of 64 KiB
	$(BIN)/python benchmarks/full_disk.py --out proofs/disk

soak: $(INSTALLED)  ## two hours of preprocess and benchmark in a loop
	$(BIN)/python benchmarks/soak.py --out proofs/soak --minutes $(or $(MINUTES),120)

$(INSTALLED): pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
