# make demo | install | test | test-slow | simulate [SEEDS=n | SEED=n] | check | check-native | bench [ONLY=name] | figures [ADD=file] | lock | sbom | site | clean    ARGS=... are passed to the command
# Packages are installed in the versions of locks/. NEWEST=1: the newest that pyproject.toml allows; LOWEST=1: the
# lowest.
VENV := .venv/bin
RELEASES := $(if $(NEWEST),newest,$(if $(LOWEST),lowest,locked))
INSTALLED := .venv/.installed-dev-$(RELEASES)
JOBS := 2
FOR_DEMO := $(if $(wildcard $(INSTALLED)),$(INSTALLED),.venv/.installed-demo-$(RELEASES))

.PHONY: demo install test test-slow simulate check check-native bench figures lock sbom site clean

demo: $(FOR_DEMO)
	$(VENV)/lifelong demo $(ARGS)

# Installs what developers need. Every command installs what it needs, so nobody has to run this one first.
install: $(INSTALLED)

# All tests except the slow ones, which kill learners, whole services and networks for minutes. They run in JOBS
# processes. Each process has its own servers, which the tests of a file share. A test that is marked `alone` waits
# until no other test runs. Each test runs once. ARGS=--again runs failed tests a second time and reports which of them
# passed then; they still count as failed.
test: $(INSTALLED)
	$(VENV)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(INSTALLED)
	$(VENV)/python -m pytest -m slow $(ARGS)

# Simulates the service with faults on a virtual clock (docs/simulation.md), with the seeds 0 to SEEDS - 1, or only
# SEED.
simulate: $(INSTALLED)
	$(VENV)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200)) $(ARGS)

check: $(INSTALLED)
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/vulture
	$(VENV)/deptry .
	$(VENV)/python -m pytest -q -m "not slow" tests/test_architecture.py tests/test_style.py tests/test_modules.py tests/docs

# Runs the tests of the native kernels under the address and undefined-behaviour sanitizers, except tests of the build.
# The object is built first: otherwise each process of pytest would build its own.
SANITIZED := CFLAGS="-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
	XDG_CACHE_HOME=$(CURDIR)/build/sanitized

check-native: $(INSTALLED)
	$(SANITIZED) $(VENV)/python -c "from kernels.native.build import find_or_build; find_or_build()"
	$(SANITIZED) \
	LD_PRELOAD="$$($${CC:-gcc} -print-file-name=libasan.so) $$($${CC:-gcc} -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 \
	$(VENV)/python -m pytest -q -p no:cacheprovider -m "not live" tests/kernels/native tests/kernels/encoder \
	    tests/kernels/linear_i8 tests/kernels/linear_i4 tests/kernels/sparse_i8 tests/kernels/attention_i8 \
	    tests/kernels/conv2d \
	    --ignore tests/kernels/native/test_build.py -n $(JOBS) --dist loadfile $(ARGS)

bench: .venv/.installed-bench-$(RELEASES)
	$(VENV)/python -m bench $(if $(ONLY),--only $(ONLY)) $(ARGS)

# Writes every measured number of the documents, from docs/results.jsonl and docs/ledger.jsonl.
# ADD=build/bench/results.jsonl first adds the rows of the newest commit in that file.
figures: $(INSTALLED)
	PYTHONPATH=. $(VENV)/python scripts/figures.py $(if $(ADD),--add $(ADD))

# Writes the version and the digests of every library. Run it, and review the changes, before a release.
lock sbom: $(INSTALLED)
	scripts/lock.sh $@ $(ARGS)

# Builds the documents and the reference as a site in build/site, which loads nothing from other hosts.
site: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --quiet

clean:
	rm -rf .venv dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis build/bench

.venv/.installed-%: pyproject.toml locks/build.lock locks/demo.lock locks/dev.lock locks/bench.lock scripts/install.sh
	scripts/install.sh $(subst -, ,$*)
