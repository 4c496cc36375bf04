# Every target works in a fresh checkout: demo, test and bench first set up what
# they need.

# Tests that need the engine fail without one, since set-up has provided it.
SANDBOXER_REQUIRE_ENGINE ?= 1
export SANDBOXER_REQUIRE_ENGINE

# The race detector and a real engine on a small machine take minutes.
timeout = 60m

demo_repo = testdata/demo-repo

# What tests keep to be looked at: screenshots of pages.
artifacts = .cache/artifacts
staticcheck = go tool -modfile=$(CURDIR)/tools/lint/go.mod staticcheck

.PHONY: help demo test lint cross generate bench fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo: ## bring up two copies of one repository side by side, and destroy them
	@scripts/setup demo sh -c '$(demo_repo)/build.sh && exec go run ./examples/demo'

test: ## run all tests with the race detector
	@scripts/setup test sh -c '$(demo_repo)/build.sh && mkdir -p $(artifacts) && \
		exec go test -race -timeout $(timeout) -artifacts -outputdir $(CURDIR)/$(artifacts) ./...'

lint: cross ## check formatting, go vet, staticcheck and shell syntax
	@unformatted=$$(gofmt -s -l .) || exit 1; \
	[ -z "$$unformatted" ] || { echo "run gofmt -s -w on:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	$(staticcheck) ./...
	cd $(demo_repo) && go vet ./... && $(staticcheck) ./...
	@for script in scripts/* .ci/run $$(find . -name .cache -prune -o -name '*.sh' -print); do \
		sh -n "$$script" || exit 1; \
	done

cross: ## compile for every system that clients run on
	GOOS=linux go build ./...
	GOOS=darwin go build ./...
	GOOS=windows go build ./...

generate: ## write the files that are derived from the source
	go generate ./...

bench: ## time sandboxes against plain docker compose on this machine
	@scripts/setup demo sh -c '$(demo_repo)/build.sh && \
		exec go test -run "^$$" -bench . -timeout $(timeout) ./compose'

# How long each fuzz target runs.
fuzztime ?= 1m

fuzz: ## run every fuzz target for fuzztime (1m); what it finds is kept in testdata/fuzz
	@grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$$(dirname "$$file") $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(fuzztime) "$$(dirname "$$file")" || exit 1; \
		done; \
	done

clean: ## remove what the other targets built in this checkout
	rm -rf .cache bin $(demo_repo)/dist
