# One verb a job. `make demo` runs the main job, `make test` passes the tests; each installs what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CLUSTER ?= alongside
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/alongside
# A fresh clone finds the dependencies that an earlier one built: the folder's name says what they were built from.
BUILT_FROM := $(shell { cat Cargo.lock .cargo/config.toml Cargo.toml; rustc --version; } 2>/dev/null | sha256sum | cut -c1-16)
export CARGO_TARGET_DIR ?= $(CACHE)/target/$(BUILT_FROM)
export CARGO_TERM_COLOR ?= never

.PHONY: help
help: ## Says what there is
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Installs and builds what tests and demo need (Debian packages; Kubernetes from Go modules)
	@tests/setup

.PHONY: check
check: ## Formatting, and that generated files are what they would be generated to
	cargo fmt --all --check
	cargo run --quiet --bin crdgen -- --check

.PHONY: lint
lint: ## Clippy with the house rules
	cargo clippy --workspace --all-targets --features alongside/fault-points -- -D warnings

.PHONY: deny
deny: ## Licences, sources and duplicates among the dependencies
	tests/deny

.PHONY: test-databases
test-databases: setup ## The workers against real PostgreSQL, the guards against real Prometheus
	cargo test --test sql --test backfill --test verify --test cutover --test guards

.PHONY: test-e2e
test-e2e: setup ## End to end on a real cluster
	cargo test --features alongside/fault-points --test e2e

.PHONY: test-argocd
test-argocd: setup ## Migrations synced from Git by a real Argo CD, which is built the first time (5 minutes)
	@tests/cluster/argocd/build
	cargo test --features alongside/fault-points --test argocd

.PHONY: test-cluster
test-cluster: setup ## The test cluster itself
	tests/cluster/test.sh

.PHONY: generate
generate: ## Writes the CRD, RBAC, references, and Argo CD's configuration with its test files
	cargo run --quiet --bin crdgen -- --write
	ALONGSIDE_WRITE=1 cargo test --quiet --features alongside/fault-points --test engine argocd

.PHONY: test
test: setup ## Everything: checks, unit, property and model tests, real databases, real clusters
	@tests/run

.PHONY: soak
soak: ## The long run: many more random walks through the model, and moves under which whatever can dies
	ALONGSIDE_SCHEDULES=200 cargo test --test cutover -- whatever_dies --nocapture
	cargo test --features alongside/fault-points --test model -- --ignored --nocapture

.PHONY: cluster
cluster: setup ## A Kubernetes cluster to look around in
	@tests/cluster/up --reuse $(CLUSTER)

.PHONY: cluster-down
cluster-down: ## Takes it down
	@tests/cluster/down $(CLUSTER)

-include deploy/demo/demo.mk
-include benches/bench.mk
