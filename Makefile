# Seodang: `make run` shows it, `make test` proves it. Both install what is missing first (see scripts/setup).
.PHONY: setup run test bench bench-peers fmt
SHELL := /bin/bash

setup: ## Install every missing Debian package, browser and node module
	@scripts/setup test

run: ## Build, start the demo class and print the links
	@scripts/setup run
	cargo run --quiet --bin seodang -- demo

test: setup ## Everything CI runs
	scripts/test

bench: setup ## Every figure of docs/benchmarks.md, on a release build
	scripts/bench

bench-peers: setup ## The same classes with Seodang and with Debian's Janus, into docs/benchmarks.md; needs root
	scripts/bench-peers

fmt:
	cargo fmt --all
