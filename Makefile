# Every target sets up what it needs by itself; `make` alone tells what there is.

SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin

# The node that `make run` builds. `dev` took 1 min 45 s on 2 cores from nothing, `release`
# 4 min 04 s; `make test` builds in `dev` too, so the second of the two commands starts warm.
PROFILE ?= dev
# Further flags of `postrider serve`: make run ARGS="--listen 127.0.0.1:9000"
ARGS ?=
# What `make bench` measures: all, or the names of single measurements.
WHAT ?= all
# 0 leaves `make test` out of `make fresh`.
TEST ?= 1

.PHONY: help run test bench chaos lint generate fresh

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

run: ## builds a node and serves on http://127.0.0.1:8080 with a PostgreSQL of its own
	@deploy/setup.sh run
	@cargo run --locked --profile $(PROFILE) --bin postrider -- serve $(ARGS)

test: ## builds and tests everything
	@deploy/setup.sh test
	@deploy/test.sh all

chaos: ## the long fault runs: kill -9 and dropped requests, 20 rounds and 20,000
	@deploy/setup.sh test
	@POSTRIDER_CHAOS=long deploy/test.sh chaos

bench: ## measures, each figure beside its floor from the same run (WHAT=all)
	@deploy/setup.sh bench
	@cargo run --locked --release -p bench -- $(WHAT)

lint: ## formatting, clippy, scripts and configuration; warnings are errors
	@deploy/setup.sh run
	@deploy/lint.sh
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings

generate: ## writes again what is generated from the code and committed
	@deploy/setup.sh test
	@POSTRIDER_REGENERATE=1 deploy/test.sh fresh

fresh: ## proves `make run` and `make test` on a new Debian 12 (root; TEST=0: only the first)
	@deploy/setup.sh fresh
	@TEST=$(TEST) deploy/fresh.sh
