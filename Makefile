# Tasks for people who work on dspex. CI runs .ci/run, which uses the same scripts.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules --no-print-directory

PACKAGES ?= ./...
BENCH ?= .
FUZZTIME ?= 30s

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## Run every test in its short form
	go test $(PACKAGES)

.PHONY: test-race
test-race: ## Run every test in its short form, shuffled, under the race detector
	go test -race -shuffle=on $(PACKAGES)

.PHONY: test-python
test-python: ## Run the tests of the Python half
	python=$$(scripts/python) && cd python && "$$python" -m pytest -q

.PHONY: faults
faults: ## Run every fault test in its full form (up to half an hour)
	DSPEX_FAULTS=full go test -count=1 -timeout 45m -p 1 -run '^TestFault_' $(PACKAGES)

.PHONY: lint
lint: ## Check Go and Python: linters, types, formats, go.mod
	scripts/lint

.PHONY: fmt
fmt: ## Format Go and Python
	scripts/golangci-lint fmt
	python=$$(scripts/python) && "$$python" -m ruff format python && "$$python" -m ruff check --fix python

.PHONY: bench
bench: ## Run the benchmarks; BENCH=regexp chooses
	go test -run '^$$' -bench '$(BENCH)' -timeout 60m ./bench/...

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME
	scripts/fuzz $(FUZZTIME)

.PHONY: cross
cross: ## Compile for every supported platform
	scripts/cross

.PHONY: snippets
snippets: ## Run every program and command of the README and docs/
	go run ./scripts/snippets

.PHONY: locks
locks: ## Resolve the Python requirements again and pin them with hashes
	scripts/locks

.PHONY: ci
ci: ## Run what CI runs
	.ci/run
