# chargegate: what people and CI call.
#
#   make build   the three programs, into bin/
#   make demo    a garage on this machine: chargers, gateway, cloud
#   make test    everything: units, and the garage with real programs
#   make bench   figures: the rooms alone, and a whole garage after a power cut
#   make lint    form and common mistakes
#
# demo and test install what is missing through the system's package manager
# and say so. Neither needs root where user namespaces are allowed.

GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
export CGO_ENABLED ?= 0

.PHONY: build demo test bench lint golden clean

build:
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

demo: build
	@test/need demo
	@bin/chargesim demo -bin bin

# The race detector needs cgo, and so a C compiler; test/need sees to it.
test:
	@test/need test
	CGO_ENABLED=1 $(GO) test -race -timeout 15m ./...

bench: build
	@test/need demo
	$(GO) test -run '^$$' -bench . -benchmem ./pkg/...
	bin/chargesim herd -bin bin -n 50

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	 if [ -n "$$unformatted" ]; then echo "not in gofmt's form:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...

# After a change of what is promised in text: write the golden files anew, then
# read the difference as a reviewer would.
golden:
	$(GO) test ./pkg/config ./pkg/render ./cmd/chargegate -update

clean:
	rm -rf bin
