# statscache: build, test, measure. `make` alone says what there is.

GO ?= go
# How long the soak test of `make soak` runs, and how long each decoder of what strangers send is fuzzed then; the other
# decoders get the second time.
SOAKTIME ?= 30m
FUZZTIME ?= 1h
FUZZOTHERS ?= 10m
# Where the long runs leave their page of faults injected and results, which they print in the end.
REPORT ?= /tmp/statscache-report-$(@).txt
# Which benchmarks `make bench` runs: a regular expression on their names.
BENCH ?= .

# The race detector, but not in SQLite and its C library: what was C keeps its memory outside Go's heap, where the detector
# sees nothing and only costs time.
RACE := -race -gcflags=modernc.org/...=-race=false

# Skips with these reasons mean that the real fedmsg or pyzmq wasn't there.
NEED := fedmsg|pyzmq
# The interpreter that `make python` made, where that worked and no other one is named.
VENV := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/statscache/venv
WITHPYTHON := if [ -z "$$STATSCACHE_TEST_PYTHON" ] && [ -e '$(VENV)/requirements.txt' ]; then export STATSCACHE_TEST_PYTHON='$(VENV)/bin/python'; fi;

.DEFAULT_GOAL := help
.PHONY: help build generate python browser pictures check test e2e soak bench clean

help: ## this list
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

build: ## ./statscache, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o statscache ./cmd/statscache

generate: ## make the generated files anew
	$(GO) generate ./...

python: ## the real Python fedmsg and pyzmq for the tests, in your cache folder
	@tools/python.sh

browser: # the tests open pages in Debian's chromium and look at them with axe-core; without them they are skipped and say so
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get install -y -qq chromium; } || echo 'no chromium: the browser tests are skipped (apt-get install chromium)' >&2
	@tools/axe.sh

pictures: ## the README's screenshots anew, of the demo that runs on 127.0.0.1:8840
	$(GO) run ./tools/screenshot -out docs -height 1100 start=http://127.0.0.1:8840/web/getting-started 'metric=http://127.0.0.1:8840/web/dashboard/volume-by-category?as=line&from=now-3h&group-by=category'

check: ## format, vet, staticcheck, forbidden sockets, generated files
	@unformatted=$$(gofmt -l $$(find . -name '*.go' -not -path './.*')); \
	if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w on them):" >&2; echo "$$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) run ./tools/zmqsockets
	$(GO) run ./tools/generated

# A process with the race detector waits for a second before it ends, unless told: every daemon and every package's tests.
test: python browser check ## everything that must hold, in a few minutes; says what it skipped
	@$(WITHPYTHON) GORACE=atexit_sleep_ms=10 $(GO) run ./tools/testrun -require '$(NEED)' -- $(RACE) -timeout 30m ./...

e2e: python browser ## the long end-to-end suites: crashes, chaos, large random comparisons, a minute of fuzzing each; up to 30 minutes
	@rm -f $(REPORT); ended=0; $(WITHPYTHON) \
	STATSCACHE_REPORT=$(REPORT) STATSCACHE_LONG=1 $(GO) run ./tools/testrun -require '$(NEED)' -- -count=1 -timeout 60m ./internal/e2e ./store/crate ./store/sqlite || ended=1; \
	STATSCACHE_LONG=1 $(GO) test -count=1 -run '^TestBrowser_Pages' ./api || ended=1; \
	GO='$(GO)' tools/fuzz.sh 1m 5s >>$(REPORT) || ended=1; cat $(REPORT); exit $$ended

soak: python ## hours: half an hour under faults, ten minutes without the store, 500 random interleavings, then fuzzing (SOAKTIME, FUZZTIME, FUZZOTHERS)
	@rm -f $(REPORT); ended=0; $(WITHPYTHON) \
	CRATE_HEAP_SIZE=$${CRATE_HEAP_SIZE:-1g} CRATE_HEAP_SIZE=$${CRATE_HEAP_SIZE:-512m} STATSCACHE_REPORT=$(REPORT) STATSCACHE_SOAK=$(SOAKTIME) $(GO) run ./tools/testrun -require '$(NEED)' -- -count=1 -timeout 24h -run '^TestSoak' ./internal/e2e || ended=1; \
	STATSCACHE_LONG=1 $(GO) test -count=1 -timeout 2h -run '^TestAnyInterleaving' ./consumer || ended=1; \
	cat $(REPORT); GO='$(GO)' tools/fuzz.sh $(FUZZTIME) $(FUZZOTHERS) | tee -a $(REPORT); ! grep -q ' FAILED$$' $(REPORT) || ended=1; exit $$ended

bench: python ## the figures of speed and memory, with the machine they were measured on
	@GO='$(GO)' tools/machine.sh
	@$(WITHPYTHON) CRATE_HEAP_SIZE=$${CRATE_HEAP_SIZE:-1g} $(GO) test -run '^$$' -bench '$(BENCH)' -benchtime 1x -count=1 -timeout 60m ./internal/e2e
	@$(GO) test -run '^$$' -bench '$(if $(filter .,$(BENCH)),^Benchmark(Sums|Counts)$$,$(BENCH))' -benchtime 20x -count=1 -timeout 60m ./store/sqlite ./api
	@CRATE_HEAP_SIZE=$${CRATE_HEAP_SIZE:-1g} $(GO) test -run '^$$' -bench '$(if $(filter .,$(BENCH)),^Benchmark(Counters|Find)$$,$(BENCH))' -benchtime 50x -count=1 -timeout 60m ./store/crate

clean: ## remove what build made
	rm -f statscache
