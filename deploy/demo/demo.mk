# Included by the Makefile at the root.

.PHONY: demo
demo: ## Tells the story on a real cluster (CONTEXT=... IMAGES=... for one of yours)
	@CLUSTER='$(CLUSTER)' CONTEXT='$(CONTEXT)' IMAGES='$(IMAGES)' TAG='$(TAG)' deploy/demo/run

.PHONY: images
images: ## Builds the demo's images and prints their archives (IMAGES=... TAG=... name them)
	@tests/cluster/setup
	@cargo build --quiet --release -p alongside -p shop --bin alongside --bin shop
	@IMAGES='$(IMAGES)' TAG='$(TAG)' deploy/demo/images
