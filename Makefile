# Needs git, make and Python >= 3.11; all else goes into .venv, at the versions and
# hashes of requirements-dev.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := wlproxy guest-agent kernel lab bench release tests
# pip: only what the lock names, from whatever index this machine's pip is set up for.
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check install

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: env
env: $(VENV)/.in-place ## make .venv: locked tools, and all three distributions in place

$(VENV)/.locked: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "wlproxy needs Python 3.11 or newer: make env PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get -qq update && apt-get -qq install -y python3-venv >/dev/null; \
	  else \
	    echo "$(PYTHON) has no venv module. On Debian: apt-get install python3-venv" >&2; exit 1; \
	  fi
	@echo "Installing the locked tools into $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --require-hashes -r requirements-dev.lock || \
	  { echo "If pywayland had no wheel for this machine, building it takes (Debian):" \
	         "apt-get install gcc pkg-config libffi-dev libwayland-dev python3-dev" >&2; exit 1; }
	@touch $@

PYPROJECTS := pyproject.toml guest-agent/pyproject.toml wlproxy-channel/pyproject.toml
$(VENV)/.in-place: $(VENV)/.locked $(PYPROJECTS)
	@$(PIP) --no-deps --no-build-isolation -e wlproxy-channel -e . -e guest-agent
	@touch $@

.PHONY: fmt
fmt: env ## format, and fix what ruff can fix
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

.PHONY: lint
lint: env ## formatting, lint, types, import contracts, dependencies, spelling
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/deptry .
	git ls-files -z | xargs -0 $(BIN)/codespell

.PHONY: check
check: lint ## lint, and the tests that need no machine but this one (two minutes)
	$(BIN)/python -m pytest -m "not (slow or lab or guest)"

.PHONY: test
test: env docs ## everything: what is quick first, then all else, in the lab's machines too
	$(BIN)/python -m lab setup
	@# The lab's images, which take minutes if none are there, beside what needs none.
	@mkdir -p build; \
	  $(BIN)/python -m lab build --host trixie --host bookworm --xen >build/images.log 2>&1 & \
	  images=$$!; trap 'kill $$images 2>/dev/null; exit 1' INT TERM; \
	  $(MAKE) --no-print-directory lint quick || { kill $$images 2>/dev/null; exit 1; }; \
	  wait $$images || { cat build/images.log; exit 1; }
	@# Side by side: an emulated machine leaves a processor idle half of the time.
	@status=0; \
	  $(BIN)/python -m pytest --lab -m "slow and not (lab or guest or demo or xen)" \
	    >build/tests-here.log 2>&1 & here=$$!; \
	  trap 'kill $$here 2>/dev/null' INT TERM; \
	  $(BIN)/python -m pytest --lab -m "lab or guest or demo or xen(short=True)" || status=1; \
	  wait $$here || status=1; \
	  cat build/tests-here.log; \
	  exit $$status

.PHONY: test-xen
test-xen: env ## all that needs Xen: the machine that runs it, with both kinds of domU; `test` has a short part
	$(BIN)/python -m lab setup
	$(BIN)/python -m pytest --lab -m xen tests/xen

.PHONY: debug-xen
debug-xen: env ## gem_grant in a PVH domU whose kernel looks for faults, built once; in no other target
	$(BIN)/python -m lab setup
	$(BIN)/python -m lab xen --debug-kernel --timeout 3600 --pytest -- -m xen \
	  -k "pvh and not heap" tests/xen/test_pages.py tests/xen/test_lives.py tests/xen/test_hostile.py

.PHONY: chaos
chaos: env ## break processes at random moments, and have hostile apps, here and in the lab
	@status=0; \
	  $(BIN)/python -m tests.chaos --rounds 60 || status=1; \
	  $(BIN)/python -m tests.chaos.hostile || status=1; \
	  $(BIN)/python -m tests.chaos.hostile --two || status=1; \
	  $(BIN)/python -m lab run --guest --timeout 7200 -- \
	    python3 -m tests.chaos --lab --rounds 51 || status=1; \
	  exit $$status

.PHONY: wlcs
wlcs: env ## the Wayland conformance suite on Mir, without us and through us: five minutes
	$(BIN)/python -m tests.wlcs

.PHONY: quick
quick: env ## the tests of `check`, and whether each module's coverage keeps to its floor
	$(BIN)/coverage run -m pytest -m "not (slow or lab or guest)"
	$(BIN)/python -m tests.coverage_floors check

.PHONY: coverage
coverage: quick ## the same, and which lines and branches were not run
	$(BIN)/coverage report

.PHONY: floors
floors: env ## raise the floors of coverage to what the last `quick` reached
	$(BIN)/python -m tests.coverage_floors raise

.PHONY: fuzz
fuzz: env ## ten minutes of random inputs for all that faces a peer
	$(BIN)/python -m tests.fuzz

.PHONY: bench
bench: env ## what it costs, beside waypipe: a quarter of an hour; into docs/benchmarks
	$(BIN)/python -m bench
	$(BIN)/python -m bench --table docs/benchmarks/results.json --into docs/performance.md
	$(BIN)/python -m bench --table docs/benchmarks/results.json --short --into README.md

.PHONY: docs
docs: build/venv-docs/.locked ## the documentation as a site, in build/site; broken links fail
	@rm -rf build/docs && mkdir -p build/docs
	@git ls-files -z -- '*.md' '*.png' '*.svg' LICENSE | xargs -0 cp --parents -t build/docs
	@# Not with --quiet: what that hides is not counted, and nothing fails.
	@NO_MKDOCS_2_WARNING=1 build/venv-docs/bin/mkdocs build -f docs/mkdocs.yml \
	  >build/docs.log 2>&1 || { cat build/docs.log; exit 1; }
	@echo "The documentation: build/site/index.html"

# Apart from .venv, whose versions it need not agree with.
build/venv-docs/.locked: requirements-docs.lock | $(VENV)/.locked
	@$(PYTHON) -m venv --clear build/venv-docs
	@build/venv-docs/bin/python -m pip -qq --disable-pip-version-check install \
	  --require-hashes -r requirements-docs.lock
	@touch $@

.PHONY: demo
demo: env ## show it: boots the lab and leaves a picture
	$(BIN)/python -m lab.demo

.PHONY: show
show: env ## a clean Debian 13 with libvirt, our packages, the pages' commands: ten minutes, as root
	$(BIN)/python -m lab setup
	$(BIN)/python -m lab build
	$(BIN)/python -m pytest --lab -m show tests/packaging

.PHONY: tables
tables: env ## make the tables of Wayland interfaces, and the page about them, of Debian's XML
	$(BIN)/python -m tests.tables

.PHONY: pictures
pictures: env ## make the pictures of frames that the pages show, of sway's output
	$(BIN)/python -m tests.pictures

.PHONY: desktops
desktops: env ## frames on Debian 13's KWin and GNOME Shell, checked and pictured: ten minutes, as root
	$(BIN)/python -m tests.desktops

.PHONY: share
share: env ## make manual pages and shell completion anew, from the command lines
	$(BIN)/python -m release share

.PHONY: deb
deb: env ## Debian packages, built in a clean Debian 13 (as root), into dist/
	$(BIN)/python -m release deb

.PHONY: wheels
wheels: env ## a wheel and a source archive of each distribution, into dist/
	$(BIN)/python -m release python

.PHONY: release
release: env ## all that is released, into an empty dist/: wheels, sources, packages, sums
	rm -rf dist
	$(BIN)/python -m release check
	$(MAKE) --no-print-directory wheels deb
	cd dist && sha256sum * >SHA256SUMS

.PHONY: lock
lock: env ## pin the newest versions that pyproject.toml allows
	@# A list of versions and hashes, where uv.lock would name the index's URLs: this
	@# one installs from whichever index or mirror the machine has, with pip alone.
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" --python-version 3.11 \
	  --group run --group dev -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" --python-version 3.11 \
	  --group docs -o requirements-docs.lock

.PHONY: clean
clean: ## remove what the targets above made, but not the lab's images
	rm -rf $(VENV) build dist guest-agent/dist wlproxy-channel/dist .coverage .hypothesis \
	  .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
