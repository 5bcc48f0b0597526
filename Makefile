GO   ?= go
LINT  = $(GO) tool -modfile=tools/go.mod golangci-lint

# Races are looked for in all but the packages whose loops do nothing else: SQLite,
# translated from C, and Argon2id. With them the tests take three times as long.
RACE = -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false -gcflags=golang.org/x/crypto/argon2=-race=false

.PHONY: test
test: tools check ## Everything that CI does, on SQLite, PostgreSQL and in Chromium
	$(GO) run ./db/dbtest/withpg -- $(GO) test $(RACE) -timeout 45m ./...

.PHONY: check
check: ## The tests' quick half: format, vet, go.mod, linters
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "gofmt would change:"; echo "$$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -C tools/read .
	$(GO) mod tidy -diff
	$(LINT) run ./...

.PHONY: tools
tools: ## Install what the tests need and this machine lacks
	@sh tools/install.sh

.PHONY: bench
bench: ## Processor time of the database's operations
	$(GO) run ./db/dbtest/withpg -- $(GO) test -run '^$$' -bench . ./db

# How long each target is fuzzed.
FUZZTIME ?= 10m

.PHONY: fuzz
fuzz: ## Everything that strangers send, thrown at what reads it, FUZZTIME each
	@grep -r --include='*_test.go' -o '^func Fuzz[A-Za-z]*' account backup device idp secret | sed 's|/[^/]*_test.go:func | |' | while read -r room target; do \
		echo "$$room $$target"; $(GO) test ./$$room -run '^$$' -fuzz "^$$target$$$$" -fuzztime $(FUZZTIME) </dev/null || exit 1; done

# How long is walked on each engine.
WALKTIME ?= 10m

.PHONY: walk
walk: ## Random walks of people, thieves, workspaces and operators against a model, WALKTIME on each engine
	$(GO) run ./db/dbtest/withpg -- $(GO) test ./cmd/harmony-id -run '^TestWalk$$' -walk $(WALKTIME) -timeout 0 -v

.PHONY: endure
endure: ## Two replicas behind HAProxy under load, killed, restarted and cut off: five minutes
	@sh tools/install.sh haproxy
	$(GO) run ./db/dbtest/endure

.PHONY: build
build: ## bin/harmony-id, static
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/harmony-id ./cmd/harmony-id

.PHONY: dev
dev: ## The provider and two demo workspaces on this machine
	$(GO) run ./cmd/harmony-id dev

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile
