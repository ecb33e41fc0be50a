.PHONY: bench
BENCH_OUT ?= $(CACHE)/bench
bench: setup ## Measures Alongside, and Argo Rollouts beside it: BENCH="alone-1s idle" picks some (docs/benchmarks.md)
	cargo build --release -p alongside -p alongside-bench -p shop --bins
	benches/run $(CARGO_TARGET_DIR)/x86_64-unknown-linux-gnu/release $(BENCH_OUT) $(BENCH)
