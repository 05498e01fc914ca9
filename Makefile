# Everything a fresh machine needs: `make demo`, `make test`, `make bench`.

GO      ?= go
SHELL   := /bin/bash
MODULES := plain reverse mux obfs4 shadowsocks webtunnel
WASM    := $(MODULES:%=modules/built/%.wasm)

# The same source and toolchain give the same bytes, whoever builds them where.
WASM_FLAGS := -buildmode=c-shared -trimpath -buildvcs=false -tags=watm_hostcrypto -ldflags='-s -w -buildid='

# The race detector makes wazero's compiler, and our own passes over a module's code, 10
# times as slow, and modules are compiled in most packages' tests; scrypt is slow by
# design. These work on what one
# goroutine owns; they alone are built without. (A package that has generic code of sync
# would take that from all.)
WAZERO  := github.com/tetratelabs/wazero/internal
NO_RACE := $(WAZERO)/engine/wazevo/backend/... $(WAZERO)/engine/wazevo/frontend $(WAZERO)/engine/wazevo/ssa \
	$(WAZERO)/leb128 waterproxy/transport/internal/wasmfile golang.org/x/crypto/scrypt
RACE    := -race $(NO_RACE:%=-gcflags=%=-race=false)

# What lint is made of.
CHECKS := gofmt vet vet-wasm vet-peer

.PHONY: all modules testmodules peers demo test built unit counts timed fuzz faults soak soak-short integration lint $(CHECKS) bench examine chutney clean need-tor need-test-tools

all: waterproxy

# go build decides by itself what is out of date. Without C the file runs on any Linux, and
# the walls reach every thread by means of Go's own.
waterproxy: modules FORCE
	CGO_ENABLED=0 $(GO) build -trimpath -o $@ .

modules: $(WASM)

modules/built/%.wasm: FORCE
	GOOS=wasip1 GOARCH=wasm $(GO) build $(WASM_FLAGS) -o $@ ./modules/$*

testmodules: need-test-tools
	REQUIRE_RUST=1 transport/testmodules/build.sh

# Flags for it go into DEMO, as in: make demo DEMO=--update
demo: need-tor waterproxy
	./waterproxy demo $(DEMO)

# Each part runs whatever becomes of the others; what has failed is listed at the end. The
# tests of integration wait for tor more than for a processor: counts and timed have what they
# leave over.
test:
	@MAKE="$(MAKE)" BUILT=1 $(GO) run ./scripts/testall built $(CHECKS) unit timed,counts+integration

# What all parts need. With BUILT they do not build it again, which would also get in the way
# of those that run beside each other.
built: need-tor need-test-tools waterproxy testmodules peers
ifndef BUILT
vet: modules
unit counts: modules testmodules
timed soak-short integration: built
fuzz: testmodules
endif

# For what may run beside integration: private Tor networks need a processor in time.
LEFTOVER := nice -n 10

lint: $(CHECKS)

gofmt:
	@out=$$(gofmt -l .); test -z "$$out" || { echo "gofmt would change: $$out"; exit 1; }

vet:
	$(GO) vet ./...

vet-wasm:
	GOOS=wasip1 GOARCH=wasm $(GO) vet ./modules/...

vet-peer:
	cd bench/peer && $(GO) vet ./...
	cd integration/peers && $(GO) vet ./...

# A test that would do without a program because it is missing fails instead.
unit counts soak-short integration: export REQUIRE_RUST = 1

# What takes longest begins first, with the others beside it: one more than there are
# processors, since tests wait for each other's processes. A process that the race detector
# watches would live on for a second after its end.
unit: export GORACE = atexit_sleep_ms=0
unit:
	@set -o pipefail; packages=$$($(GO) list ./... | grep -v '^waterproxy/integration$$') && \
		$(GO) test -p $$(($$(nproc) + 1)) $(RACE) -timeout 25m $(TESTFLAGS) ./integration/self ./transport $$packages

# What is repeated less often under the race detector, as often as it should be.
counts:
	$(LEFTOVER) $(GO) test -count=1 -timeout 25m $(TESTFLAGS) -run '^(TestHotReload|TestIntegrity|TestChurn|TestChurnMany|TestHostile)$$' ./integration/self ./transport

# Most of these tests wait for tor: more of them run at once than there are processors.
integration:
	$(GO) test -count=1 -timeout 25m -parallel 6 $(TESTFLAGS) -skip '^TestSoak$$' ./integration

# These take a time of their own, however much they get done in it, and so take it together.
timed:
	@$(LEFTOVER) $(MAKE) --no-print-directory -j2 fuzz soak-short

soak-short:
	$(GO) test -count=1 -timeout 25m $(TESTFLAGS) -run '^TestSoak$$' ./integration

# Each fuzz target for so long; CI has 10 seconds for each.
FUZZTIME ?= 10s
fuzz:
	scripts/fuzz $(FUZZTIME)

# Each built-in transport over connections that fail, by so many schedules; CI has 100.
# Then either side is killed, so often; CI has 3.
FAULTS ?= 10000
KILLS  ?= 200
faults: modules waterproxy
	$(GO) test ./integration -count=1 -v -timeout 2h -run 'TestFaults|TestEngineSchedules' -faults.schedules=$(FAULTS) -faults.engines=1000
	$(GO) test ./integration/self -count=1 -v -timeout 2h -run TestKilled -faults.kills=$(KILLS)
	$(GO) test ./internal/repository -count=1 -v -timeout 2h -run 'TestAttackKilled|TestAttackMalformed' -attacks.kills=$(KILLS) -attacks.every

# Connections for so long, most of them held open; CI has 3 minutes.
SOAK ?= 1h
soak: waterproxy
	$(GO) test ./integration -count=1 -v -timeout 12h -run 'TestSoak|TestSilent' -soak.time=$(SOAK) -soak.open=9000

# BENCH="-quick" and other flags: see bench/README.md.
bench: need-test-tools waterproxy testmodules peers
	$(GO) run ./bench $(BENCH)
	$(GO) run ./bench -contestants obfs4proxy,lyrebird,waterproxy:obfs4 $(BENCH)
	$(GO) run ./bench -contestants shadowsocks,waterproxy:shadowsocks $(BENCH)
	$(GO) run ./bench -contestants webtunnel,waterproxy:webtunnel -skip close $(BENCH)
	$(GO) run ./bench runtime $(BENCH)
	$(GO) run ./bench runtime -contestants tcp,water,RuntimeConn $(BENCH)
	$(GO) run ./bench threads $(BENCH)
	$(GO) run ./bench idle
	$(GO) test ./internal/repository -run '^$$' -bench . -benchtime 30x -count 7

# docs/probing.md, from what waterproxy examine finds of our transports and of those of others.
# EXAMINE="-reports DIR" keeps the reports, and makes those that are not there.
examine: need-test-tools waterproxy peers
	$(GO) run ./scripts/examine $(EXAMINE)

# With an existing checkout: make chutney CHUTNEY_PATH=... [TRANSPORT=...]
chutney: need-tor waterproxy
	integration/chutney/run "$(CHUTNEY_PATH)" $(TRANSPORT)

# Programs of others that no Debian package has.
peers:
	cd integration/peers && $(GO) build -o built/ ./ss2022 $$($(GO) list -f '{{.ImportPath}}' tool | grep -v /webtunnel/)
	cd integration/peers && for side in client server; do \
		$(GO) build -o built/webtunnel-$$side $$($(GO) list -f '{{.ImportPath}}' tool | grep /webtunnel/main/$$side) || exit; done

need-tor:
	scripts/install tor

need-test-tools:
	scripts/install tor obfs4proxy shadowsocks-libev tinyproxy microsocks nginx-light caddy chromium iproute2 python3 curl clang lld wasi-libc libclang-rt-dev-wasm32 rustc libstd-rust-dev-wasm32

clean:
	rm -rf waterproxy modules/built/*.wasm transport/testmodules/built integration/peers/built

FORCE:
