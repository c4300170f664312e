# pilotfish: run `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO      ?= go
CACHE   := $(CURDIR)/.cache
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Packages whose concurrency the race detector watches in every test run.
RACE    := ./config/... ./discovery/... ./snapshot/...

export KUBE_BIN_DIR ?= $(CACHE)/bin

include tools/tools.mk

.PHONY: help
help: ## Show this list
	@awk -F':.*## ' '/^[a-zA-Z_-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: prerequisites
prerequisites:
	@command -v $(GO) >/dev/null || { echo "pilotfish needs Go 1.26 or newer: https://go.dev/dl"; exit 1; }

.PHONY: build
build: prerequisites ## Build bin/pilotfish
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -tags grpcnotrace -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

# Names of the images: $(HUB)/pilotfish:$(TAG) and $(HUB)/pilotfish-proxy:$(TAG).
HUB ?= docker.io/pilotfish
TAG ?= $(VERSION)

.PHONY: images
images: build envoy ## Write the container images to bin/images, with no daemon or registry
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/example-app ./e2e/app
	@$(GO) run ./manifests/images/build -envoy "$$(tools/envoy.sh)" -hub '$(HUB)' -tag '$(TAG)'

# Where the cluster of make cluster is.
export CLUSTER_DIR ?= $(CACHE)/cluster
CLUSTER := $(CACHE)/bin/cluster-ctl --bin $(CACHE)/bin

.PHONY: e2e
e2e: prerequisites envoy cluster-binaries otelcol ratelimit ## Test pilotfish in a real cluster: this machine's own, or KUBECONFIG's
	ENVOY="$$(tools/envoy.sh)" $(GO) test -count=1 -timeout 40m -v ./e2e/mesh

.PHONY: cluster-tools
cluster-tools: prerequisites cluster-binaries
	@CGO_ENABLED=0 $(GO) build -trimpath -o $(CACHE)/bin/cluster-ctl ./e2e/cluster/ctl
	@CGO_ENABLED=0 $(GO) build -trimpath -o $(CACHE)/bin/e2e-app ./e2e/app

.PHONY: cluster
cluster: cluster-tools ## Start a one-node Kubernetes on this machine (root on Linux): eval "$$(make cluster)"
	@$(CLUSTER) up --app $(CACHE)/bin/e2e-app

.PHONY: cluster-down
cluster-down: ## End it and remove every trace of it
	@[ ! -x $(CACHE)/bin/cluster-ctl ] || $(CLUSTER) down

CANARY ?= examples/canary

.PHONY: run
run: build envoy ## Start the canary example on this machine and print its page's URL
	@ENVOY="$$(tools/envoy.sh)" bin/pilotfish up $(CANARY) --load

.PHONY: test
test: prerequisites envoy old-envoy cluster-binaries otelcol otelcol-contrib ratelimit ## Run everything that CI runs, but for lint
	$(GO) vet ./...
	ENVOY="$$(tools/envoy.sh)" $(GO) test -timeout 30m $$($(GO) list ./... | grep -v '/e2e/mesh$$')
	ENVOY="$$(tools/envoy.sh)" $(GO) test -timeout 40m ./e2e/mesh # alone: it loads the machine and measures
	ENVOY="$$(tools/envoy.sh)" $(GO) test -race -short -timeout 20m $(RACE)
	$(GO) test -race -timeout 20m -run 'SharedByGoroutines|FollowsSmallMesh' ./translate

FUZZTIME ?= 30s

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME (30s); what fails stays under testdata/fuzz
	@grep -rl --include=*_test.go '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r package; do \
	  grep -ho '^func Fuzz[A-Za-z]*' $$package/*_test.go | sed 's/^func //' | while read -r target; do \
	    $(GO) test $$package -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) </dev/null || exit 1; \
	  done || exit 1; \
	done

# What make bench measures: the fleet, and a peer to run beside pilotfish in the
# same run: a shell command, which finds $KUBECONFIG and $XDS_ADDRESS set, or
# PEER=floor for go-control-plane's server, which mirrors pilotfish's resources.
# Flags that are given count for every run; without, the run with a Sidecar in
# every namespace has ten times the proxies.
BENCH_SHAPE  := -services 500 -pods 2 -namespaces 10
BENCH_FLAGS  ?= $(BENCH_SHAPE) -proxies 500
SCOPED_FLAGS := $(if $(filter file,$(origin BENCH_FLAGS)),$(BENCH_SHAPE) -proxies 5000,$(BENCH_FLAGS))
CHURN_FOR    ?= 20s
PEER         ?=
# What runs adsbench with all that it starts: BENCH_RUN="chrt -r 1" keeps the
# machine's other processes out of the figures.
BENCH_RUN    ?=
SERVE       := bin/pilotfish serve --kubeconfig $$KUBECONFIG --xds-address $$XDS_ADDRESS --secure-xds-address= \
  --webhook-address= --monitoring-address= --http-address=
PEER_COMMAND = $(if $(filter floor,$(PEER)),$(CACHE)/bin/floor,$(PEER))
REPLICA_FLAGS := $(BENCH_SHAPE) -proxies 1500 -scoped -rounds 3
# istio-config-validator, a peer for the commands on configuration; without its
# path they are measured without it.
VALIDATOR    ?=
HOST_FLAGS   := $(BENCH_SHAPE) -proxies 2 -hosts 5000

.PHONY: bench
bench: export UPSTREAM = $(SERVE)
bench: build kube-binaries istioctl $(if $(filter floor,$(PEER)),floor) ## Measure the server under a fleet of proxies, then run the Go benchmarks
	$(GO) build -o bin/adsbench ./e2e/adsbench
	$(BENCH_RUN) bin/adsbench $(BENCH_FLAGS) -protocol delta -server '$(SERVE)' -peer '$(PEER_COMMAND)' -out $(CACHE)/bench-delta.md
	$(BENCH_RUN) bin/adsbench $(BENCH_FLAGS) -protocol sotw -server '$(SERVE)' -peer '$(PEER_COMMAND)' -out $(CACHE)/bench-sotw.md
	$(BENCH_RUN) bin/adsbench $(BENCH_FLAGS) -rounds 3 -churn 100 -churn-for $(CHURN_FOR) -protocol delta -server '$(SERVE)' -peer '$(PEER_COMMAND)' -out $(CACHE)/bench-churn.md
	$(BENCH_RUN) bin/adsbench $(SCOPED_FLAGS) -scoped -rounds 3 -restart -protocol delta -server '$(SERVE)' -peer '$(PEER_COMMAND)' -out $(CACHE)/bench-scoped.md
	for n in 1 2 3; do $(BENCH_RUN) bin/adsbench $(REPLICA_FLAGS) -replicas $$n -server '$(SERVE)' -out $(CACHE)/bench-replicas-$$n.md; done
	for l in one each tls; do $(BENCH_RUN) bin/adsbench $(HOST_FLAGS) -host-layout $$l -server '$(SERVE)' -out $(CACHE)/bench-hosts-$$l.md; done
	$(MAKE) --no-print-directory bench-commands
	ACCESS_PAIRS=20000 ACCESS_SEED=$$$$ $(GO) test -count=1 -timeout 30m ./e2e/access -run '^TestCorpus$$'
	JUDGE_PAIRS=100000 JUDGE_SEED=$$$$ WAY_PAIRS=20000 WAY_SEED=$$$$ $(GO) test -count=1 -timeout 30m ./e2e/judge
	$(GO) test -run '^$$' -bench . -benchmem ./translate/... ./snapshot/... ./discovery/... ./webhook/inject/ ./meshtest/

.PHONY: bench-commands
bench-commands: build istioctl ## Measure ask, test, diff and lint, with istioctl analyze and VALIDATOR=/path beside
	$(GO) build -o bin/commandbench ./e2e/commandbench
	$(BENCH_RUN) bin/commandbench -istioctl $(CACHE)/bin/istioctl -validator '$(VALIDATOR)' -out $(CACHE)/bench-commands.md

# How long the soak runs; short in make test.
SOAK ?= 1h

.PHONY: soak
soak: prerequisites ## Churn, reconnects, rejections and restarts for SOAK=1h, with an oracle
	SOAK=$(SOAK) $(GO) test ./snapshot -run '^TestSoak' -v -count=1 -timeout 0

.PHONY: lint
lint: prerequisites golangci-lint ## Check formatting, conventions and the documents
	$(CACHE)/bin/golangci-lint run ./...
	$(GO) mod tidy -diff

.PHONY: clean
clean: ## Remove what the targets built; the cache of tools stays
	rm -rf bin
