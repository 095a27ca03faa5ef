# edge-metrics-exporter. `make help` lists what can be done here.

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=
TARGETS ?= x86_64 armv7 aarch64
VARIANTS ?= full small
INIT    ?=
# What is installed: another, if you built it elsewhere or for another machine.
BUILT   := $(or $(CARGO_TARGET_DIR),target)/$(addsuffix /,$(CARGO_BUILD_TARGET))release/edge-metrics-exporter
BIN     ?= $(BUILT)

.PHONY: help run build test system-test pictures bench fuzz dist order licences deb release dockerimage docs install uninstall update-boards lint

help: ## what can be done here
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

run: ## the exporter on a simulated board: http://localhost:9100/metrics
	$(CARGO) run --locked -- demo

build: ## the release binary for this machine
	$(CARGO) build --release --locked

# Most tests wait for most of their time: cargo-nextest runs those of all binaries side by side. (It runs no documentation tests; there are none.)
TEST = $(if $(shell command -v cargo-nextest),nextest run --no-fail-fast --test-threads=$(shell expr 2 \* `nproc`),test)

test: ## all tests that need only Rust and gcc; sooner done where cargo-nextest is installed
	$(CARGO) $(TEST) --locked
	$(CARGO) $(TEST) --locked --no-default-features

lint: ## formatting, clippy, the fuzz targets, and cargo-deny where it is installed
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	CARGO_TARGET_DIR=$${CARGO_TARGET_DIR:-target} $(CARGO) clippy --locked --manifest-path fuzz/Cargo.toml --no-default-features -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) fetch --locked && $(CARGO) deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed: not checked"; fi

update-boards: ## write the fixture boards' expected output anew
	UPDATE_EXPECT=1 $(CARGO) test --locked --test boards

system-test: ## against real peers: Prometheus, promtool, prometheus_client
	tests/system/run

docs: ## a site of the documents in target/docs, with links checked; needs mdBook (MDBOOK)
	scripts/docs.py

pictures: ## the pictures of the documents, by the demo in Chromium, after system-test
	target/system-test-venv/bin/python docs/images/make.py

bench: ## figures beside node_exporter and prometheus_client
	bench/run

fuzz: ## every fuzz target for FUZZ_SECONDS (60); needs cargo-fuzz and a nightly toolchain
	fuzz/run

dist: ## static binaries in dist/, for TARGETS (x86_64 armv7 aarch64); INSTALL=yes on a Debian without them
	INSTALL=$(INSTALL) VARIANTS="$(VARIANTS)" scripts/dist.sh $(TARGETS)

order: ## have what runs lie side by side in the static binaries (scripts/order.ld); needs valgrind, and `make dist` after it
	CARGO_PROFILE_RELEASE_STRIP=none DIST_WITH=zig scripts/dist.sh $(shell uname -m)
	scripts/order.py dist/edge-metrics-exporter-$(shell uname -m)

licences: ## dist/THIRD-PARTY.txt, the licences of what is linked in, which every package has; `make dist` writes it, too
	scripts/third-party.py

deb: ## Debian packages in dist/, of the binaries that are there
	scripts/deb.sh $(TARGETS)

# What a release is made for, unless TARGETS says otherwise.
RELEASE_TARGETS = $(if $(filter file,$(origin TARGETS)),x86_64 armv7 aarch64 arm riscv64,$(TARGETS))
release: ## dist/release, all that a release page needs, of what it builds for TARGETS (and arm, riscv64); MINISIGN_KEY signs
	INSTALL=$(INSTALL) VARIANTS="$(VARIANTS)" scripts/dist.sh $(RELEASE_TARGETS)
	scripts/release.sh $(RELEASE_TARGETS)

dockerimage: ## a container image of the binaries in dist/, for three platforms (IMAGE, PUSH=yes), or for this docker (LOAD=yes)
	deploy/docker/image.sh

# Not by cargo each time: whoever installs (root, a packager) may have none, or an older one. A binary that BIN names is installed
# as it is.
$(BUILT): Cargo.toml Cargo.lock $(shell find src proto -type f)
	$(CARGO) build --release --locked

install: $(if $(filter file,$(origin BIN)),$(BUILT)) ## install it with its man page and service (DESTDIR, PREFIX, BIN, INIT=systemd, openrc, sysvinit or none)
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) INIT=$(INIT) scripts/place.sh install $(BIN)

uninstall: ## take all of that away again, but the configuration
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) INIT=$(INIT) scripts/place.sh uninstall
