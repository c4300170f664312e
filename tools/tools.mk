# The real Kubernetes that tests run against, built from the pinned modules
# beside this file. Included by the top-level Makefile; paths are relative to
# the repository's root.

.PHONY: kube-binaries cluster-binaries otelcol otelcol-contrib ratelimit floor istioctl golangci-lint envoy old-envoy

kube-binaries: ## Build etcd and kube-apiserver for the tests of discovery (minutes, once)
	@tools/build.sh etcd kube-apiserver >/dev/null

cluster-binaries: kube-binaries ## Build the rest of a one-node cluster, Istio's tools, Flagger, Argo Rollouts and helm as well
	@tools/build.sh kube-controller-manager kube-scheduler kubelet kube-proxy kubectl coredns istioctl pilot-agent pilot-discovery flagger rollouts-controller helm >/dev/null

otelcol: ## Build the OpenTelemetry collector for the tests of traces and logs
	@tools/build.sh otelcol >/dev/null

otelcol-contrib: ## Build the one with receivers of SkyWalking and Datadog
	@tools/build.sh otelcol-contrib >/dev/null

ratelimit: ## Build Envoy's rate limit service for the tests of rate limits
	@tools/build.sh ratelimit >/dev/null

floor: ## Build go-control-plane's server, a peer for make bench that translates nothing
	@tools/build.sh floor >/dev/null

istioctl: ## Build istioctl, a peer for make bench-commands
	@tools/build.sh istioctl >/dev/null

golangci-lint:
	@tools/build.sh golangci-lint >/dev/null

envoy: ## Obtain Envoy (once), or check the one that ENVOY=/path names
	@tools/envoy.sh >/dev/null

old-envoy: ## Obtain an Envoy of an older release (once) for the tests of lint --envoy
	@tools/envoy.sh 1.36.4 >/dev/null
