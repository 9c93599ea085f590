# Each target makes the virtual environment it needs under .venvs/ and keeps it until its requirements change.

PYTHON ?= python3
VENVS := .venvs

.PHONY: help demo test test-all test-debian servers chaos lint bench reference requirements clean

help:
	@echo "make demo    the whole system on this machine, on real pictures (FOLDER=... for your own, ARGS=--exit to end by itself)"
	@echo "make test    install what the tests need and run them (ARGS=... go to pytest: ARGS=\"-m 'not slow'\" takes a minute)"
	@echo "make test-all  the same with those that take long or need pgbouncer, 7z, bsdtar, unzip, unar, ip, node, promtool, java, perl or ruby"
	@echo "make test-debian  what rests on the server, on the PostgreSQL of the distribution as it comes, JIT on (ARGS=...)"
	@echo "make servers the same on PostgreSQL 14 to 18 from npm, and a day of the product on each, directly and through pgbouncer"
	@echo "make chaos   work while everything around it fails, and a ledger of it (SEED=1 SECONDS=180 JOBS=5000)"
	@echo "make lint    formatting, types, and the direction of imports"
	@echo "make reference  docs/reference/api.md and log-events.md, from the code"
	@echo "make bench   compare and measure; results in bench/results/"

# $(call venv,NAME,REQUIREMENTS): a virtual environment with pinned requirements and this checkout in it.
define venv
$(VENVS)/$(1)/.ready: requirements/$(2).txt requirements/build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "jobqueue needs Python 3.11 or later, and $(PYTHON) is older: run make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into $(VENVS)/$(1) (once)"
	@$(PYTHON) -m venv --clear $(VENVS)/$(1)
	@$(VENVS)/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/$(2).txt -r requirements/build.txt
	@$(VENVS)/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $$@
endef
$(eval $(call venv,demo,demo))
$(eval $(call venv,test,test))
$(eval $(call venv,lint,lint))
$(eval $(call venv,bench,test))

demo: $(VENVS)/demo/.ready
	@$(VENVS)/demo/bin/jobqueue demo $(if $(FOLDER),'$(subst ','\'',$(patsubst ~/%,$(HOME)/%,$(FOLDER)))') $(ARGS)

# Whole files go to the processes in the order that tests/conftest.py gives them, the slow ones first.
pytest := $(VENVS)/test/bin/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(VENVS)/test/.ready
	$(pytest) -m "not extended and not servers and not registries" $(ARGS)

test-all: $(VENVS)/test/.ready
	$(pytest) $(ARGS)

# What rests on the server: tests/support/servers.py has what JOBQUEUE_POSTGRES may be.
ON_SERVERS := tests/kernel tests/plans tests/faults tests/webhooks tests/retention tests/schedule tests/roles

test-debian: $(VENVS)/test/.ready
	JOBQUEUE_POSTGRES=debian $(pytest) -m "not extended" $(ON_SERVERS) tests/hostile_settings $(ARGS)

servers: $(VENVS)/test/.ready
	for major in 14 15 16 17 18; do \
		echo "PostgreSQL $$major"; \
		JOBQUEUE_POSTGRES=npm:$$major $(pytest) -m "not extended" $(ON_SERVERS) tests/hostile_settings $(ARGS) || exit 1; \
	done

chaos: $(VENVS)/test/.ready
	$(VENVS)/test/bin/python -m tests.chaos --seed $(or $(SEED),1) --seconds $(or $(SECONDS),180) --jobs $(or $(JOBS),5000)

lint: $(VENVS)/lint/.ready
	$(VENVS)/lint/bin/ruff check .
	$(VENVS)/lint/bin/ruff format --check .
	$(VENVS)/lint/bin/mypy src tests bench
	$(VENVS)/lint/bin/lint-imports

bench: $(VENVS)/bench/.ready
	$(VENVS)/bench/bin/python -m bench $(ARGS)

reference: $(VENVS)/test/.ready
	$(VENVS)/test/bin/python -m tests.docs.api_reference
	$(VENVS)/test/bin/python -m tests.observe.event_reference

requirements:
	$(PYTHON) -m venv --clear $(VENVS)/requirements
	$(VENVS)/requirements/bin/python -m pip install --quiet uv
	cd requirements && \
	compile="../$(VENVS)/requirements/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate" && \
	$$compile ../pyproject.toml --extra demo test.in lint.in build.in --output-file lint.txt && \
	$$compile build.in --constraint lint.txt --output-file build.txt && \
	$$compile ../pyproject.toml --constraint lint.txt --output-file runtime.txt && \
	$$compile ../pyproject.toml --extra demo --constraint lint.txt --output-file demo.txt && \
	$$compile ../pyproject.toml --extra demo test.in --constraint lint.txt --output-file test.txt

clean:
	rm -rf $(VENVS) .mypy_cache .ruff_cache .pytest_cache .hypothesis
