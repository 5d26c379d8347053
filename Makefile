# `make run` and `make test` do all set-up by themselves. PYTHON=path chooses an interpreter.

# What is installed into .venv for each of them. Both reuse what is there.
RUN_EXTRAS = server,zcml
TEST_EXTRAS = all,dev

# How long `make soak` feeds the parsers with nonsense, and for how many keys it kills workers.
SOAK_SECONDS = 600
SOAK_KEYS = 10000
SOAK_KILLS = 500
SOAK_SEEDS = 3

.PHONY: help run test bench soak conformance docs clean

help:
	@echo "make run     start the daemon, with a page to try it on"
	@echo "make test    check everything: lint, types, docs, doctests, tests, wheel"
	@echo "make bench   compare with other dispatchers"
	@echo "make soak    long runs under load"
	@echo "make conformance   run the Autobahn Testsuite against the websocket carrier"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make clean   remove everything that was made, .venv too"

run:
	@tools/venv.sh $(RUN_EXTRAS)
	@.venv/bin/python -m oni.server.quickstart oni.toml
	@.venv/bin/twistd -n --pidfile= oni --config oni.toml

test:
	@tools/venv.sh $(TEST_EXTRAS)
	@tools/debian_packages.sh
	@tools/node_modules.sh
	@.venv/bin/python tools/check.py

bench:
	@tools/venv.sh $(TEST_EXTRAS)
	@set -e; for script in benchmarks/[!_]*.py; do .venv/bin/python "$$script"; done

soak:
	@tools/venv.sh $(TEST_EXTRAS)
	@.venv/bin/python -m tests.fuzz --seconds $(SOAK_SECONDS)
	@tools/debian_packages.sh
	@.venv/bin/python -m tests.integration.kill_harness --runs $(SOAK_SEEDS) \
		--keys $(SOAK_KEYS) --kills $(SOAK_KILLS) --stops 10 --restarts 5 --patience 600

conformance:
	@tools/venv.sh $(TEST_EXTRAS)
	@.venv/bin/python tools/conformance.py

docs:
	@tools/venv.sh $(TEST_EXTRAS)
	@.venv/bin/python tools/check.py docs
	@echo "See docs/_build/html/index.html"

clean:
	rm -rf .venv .tox .wstest build dist docs/_build *.egg-info .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache twistd.pid twisted/plugins/dropin.cache
	find oni tests tools twisted benchmarks examples docs -name __pycache__ -prune -exec rm -rf {} +
