# Redress. `make` alone lists what there is to do; every target works alone, from a fresh clone.
#
#   PYTHON=python3.12   which Python makes the environments (3.11 or newer)
#   STAGE=dev           which deployment `package` and `deploy` are about
#   ARGS="-k ingress"   handed on to the tool behind a target

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
ARGS ?=

# ------------------------------------------------------------------------------------------------------ environments
# An environment is current while its stamp carries the digest of the files that it was made from.

digest = $(shell cat $(1) 2>/dev/null | cksum | cut -d ' ' -f 1)

SHIPPED := requirements.txt
DEMO_FROM := local/requirements.txt $(SHIPPED) pyproject.toml
DEV_FROM := tests/requirements.txt $(DEMO_FROM)

DEV := .venv/.made-$(call digest,$(DEV_FROM))
NEWEST := .venv-newest/.made-$(call digest,tests/requirements.txt $(SHIPPED))-$(shell date -u +%G-%V)

# The demo needs less than a developer has: a current development environment serves.
ifneq ($(wildcard $(DEV)),)
DEMO := $(DEV)
DEMO_PY := .venv/bin/python
else
DEMO := .venv-demo/.made-$(call digest,$(DEMO_FROM))
DEMO_PY := .venv-demo/bin/python
endif

PY := .venv/bin/python
REDRESS := $(PY) -m chalicelib.cli.main
INSTALL := -m pip install --disable-pip-version-check --no-input -qq
OFFLINE := { echo >&2 'Installing failed; pip says why above. Packages come from PyPI, or from PIP_INDEX_URL; behind a proxy set HTTPS_PROXY. Then try again.'; exit 1; }

# Sees to it that a folder holds a working environment; $(1) is the folder.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo >&2 "Redress needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo 'not there')."; \
	  echo >&2 "Install one (Debian: apt install python3 python3-venv), or name one: make $(MAKECMDGOALS) PYTHON=python3.12"; \
	  exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(1) || { \
	  echo >&2 "'$(PYTHON)' cannot make environments. Install its venv module (Debian: apt install python3-venv) and try again."; \
	  exit 1; }
endef

$(DEV): | $(DEV_FROM)
	@echo 'making .venv for development; a few minutes, once'
	$(call environment,.venv)
	@$(PY) $(INSTALL) -r tests/requirements.txt -e . || $(OFFLINE)
	@rm -f .venv/.made-* && touch $@

# Named apart from DEMO, which may be the development environment.
.venv-demo/.made-%: | $(DEMO_FROM)
	@echo 'making .venv-demo for the demo; a minute, once'
	$(call environment,.venv-demo)
	@.venv-demo/bin/python $(INSTALL) -r local/requirements.txt -e . || $(OFFLINE)
	@rm -f .venv-demo/.made-* && touch $@

# The newest boto3 and moto with what ships and our test tools, anew every week.
$(NEWEST): | tests/requirements.txt $(SHIPPED)
	@echo 'making .venv-newest with the newest boto3 and moto; a minute, once a week'
	$(call environment,.venv-newest)
	@grep -E '^(boto3-stubs\[[a-z0-9,]*\]|coverage|hypothesis|policy_sentry|pytest[a-z-]*)==' tests/requirements.txt > .venv-newest/tools.txt
	@sed -nE 's/^(moto[^=]*)==.*/\1/p' tests/requirements.txt >> .venv-newest/tools.txt
	@.venv-newest/bin/python $(INSTALL) --upgrade -r requirements.txt -r .venv-newest/tools.txt boto3 || $(OFFLINE)
	@rm -f .venv-newest/.made-* && touch $@

# No target but `deploy` can reach an account, whatever the shell that calls it is logged in to.
NO_ACCOUNT := env -u AWS_PROFILE -u AWS_DEFAULT_PROFILE -u AWS_ENDPOINT_URL -u AWS_ROLE_ARN \
  -u AWS_WEB_IDENTITY_TOKEN_FILE -u AWS_CONTAINER_CREDENTIALS_RELATIVE_URI -u AWS_CONTAINER_CREDENTIALS_FULL_URI \
  AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=testing AWS_SESSION_TOKEN=testing \
  AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true \
  AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null

# ------------------------------------------------------------------------------------------------------------ targets

.PHONY: help
help: ## show this list
	@echo 'Redress: make <target>'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: $(DEMO) ## see a violation found, repaired and proved, on an emulated AWS
	@$(NO_ACCOUNT) $(DEMO_PY) -m local.demo $(ARGS)

.PHONY: up
up: $(DEMO) ## keep the emulated AWS running, to try things by hand
	@$(NO_ACCOUNT) $(DEMO_PY) -m local.up $(ARGS)

.PHONY: test
test: $(DEV) ## run the quick tests
	@$(NO_ACCOUNT) $(PY) -m pytest -q -n auto --dist loadgroup -m 'not emulator and not package and not thorough' $(ARGS)

.PHONY: check
check: chromium check-format check-lint check-types check-walls check-generated check-template test-newest test-all ## run everything that must hold before a change is merged

.PHONY: fix
fix: $(DEV) ## format, and repair what the linter can
	@$(PY) -m ruff check -q --fix-only .
	@$(PY) -m ruff format -q .

.PHONY: generate
generate: $(DEV) ## write the generated files: policies, resources.yaml, member.yaml
	@$(NO_ACCOUNT) $(REDRESS) generate $(ARGS)

.PHONY: docs
docs: $(DEV) ## write the generated pages of docs/
	@$(NO_ACCOUNT) $(REDRESS) docs $(ARGS)

.PHONY: package
package: STAGE ?= dev
package: $(DEV) ## build what would be deployed (STAGE=dev)
	@$(NO_ACCOUNT) $(REDRESS) package --stage $(STAGE) $(ARGS)

.PHONY: deploy
deploy: $(DEV) ## deploy with your own credentials (STAGE=... must be named)
	@$(REDRESS) deploy --stage $(STAGE) $(ARGS)

.PHONY: pictures
pictures: $(DEV) chromium ## take docs/console.png anew from the running console
	@$(NO_ACCOUNT) $(PY) -m tests.docs.pictures

.PHONY: bench
bench: $(DEV) ## measure speed and cost
	@$(NO_ACCOUNT) $(PY) -m bench $(ARGS)

.PHONY: judge
judge: $(DEV) ## let Prowler, in its own environment, judge what was repaired
	@$(NO_ACCOUNT) $(PY) -m local.judge $(ARGS)

# A deployment is never guessed; said before anything is installed.
ifneq ($(filter deploy,$(MAKECMDGOALS)),)
ifeq ($(strip $(STAGE)),)
$(error Say which deployment: make deploy STAGE=dev)
endif
endif

# ------------------------------------------------------------------------------------------------ the parts of check

CHROMIUM := /usr/bin/chromium

.PHONY: chromium
chromium: ## install Debian's Chromium where it is absent, for tests/browser
	@if [[ -x $(CHROMIUM) ]]; then :; \
	elif [[ $$EUID -eq 0 ]] && command -v apt-get >/dev/null; then \
	  echo 'installing Chromium for tests/browser; a minute, once'; \
	  apt-get -qq update >/dev/null; \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium fonts-liberation >/dev/null; \
	else \
	  echo >&2 'There is no $(CHROMIUM), so that the tests in tests/browser are skipped. As root (Debian): apt install chromium'; \
	fi

.PHONY: check-format
check-format: $(DEV) ## is everything formatted?
	@echo '== format'
	@$(PY) -m ruff format -q --check .

.PHONY: check-lint
check-lint: $(DEV) ## does the linter agree?
	@echo '== lint'
	@$(PY) -m ruff check -q .

.PHONY: check-types
check-types: $(DEV) ## do mypy and pyright agree?
	@echo '== types'
	@$(PY) -m mypy --no-error-summary
	@out=$$($(PY) -m pyright) || { echo "$$out"; exit 1; }

.PHONY: check-walls
check-walls: $(DEV) ## do the import contracts hold?
	@echo '== walls'
	@out=$$(.venv/bin/lint-imports --no-logo) || { echo "$$out"; exit 1; }

.PHONY: check-generated
check-generated: $(DEV) ## are the generated files and pages fresh?
	@echo '== generated files'
	@$(NO_ACCOUNT) $(REDRESS) generate --check
	@$(NO_ACCOUNT) $(REDRESS) docs --check

.PHONY: check-template
check-template: $(DEV) ## does cfn-lint accept what would be deployed?
	@echo '== template'
	@rm -rf build/check
	@$(NO_ACCOUNT) $(REDRESS) package --stage dev --out build/check >/dev/null
	@$(dir $(PY))cfn-lint build/check/sam.* .chalice/member.yaml

.PHONY: test-newest
NEWEST_TESTS := $(wildcard tests/remediations tests/adapters)
test-newest: $(NEWEST) ## run the tests that talk to moto against the newest boto3 and moto
	@echo '== tests on the newest boto3 and moto: $(or $(NEWEST_TESTS),none written yet)'
	@$(if $(NEWEST_TESTS),$(NO_ACCOUNT) .venv-newest/bin/python -m pytest -q -n auto -m 'not emulator and not package' $(NEWEST_TESTS) $(ARGS))

.PHONY: test-all
test-all: $(DEV) ## run every test and hold the coverage gate
	@echo '== all tests'
	@$(NO_ACCOUNT) $(PY) -m pytest -q -n auto --dist loadgroup --cov --cov-report term $(ARGS)

.PHONY: coverage
coverage: $(DEV) ## after test-all: the coverage of everything, gated or not
	@$(PY) -m coverage report --include '*' --fail-under 0

.PHONY: clean
clean: ## remove what was built and cached, not the environments
	@rm -rf build dist .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
