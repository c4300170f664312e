#!/bin/sh
# tools/build.sh NAME...: builds pinned tools into .cache/bin, each only once.
# Every tool is a Go tool of one of the modules beside this file, or the main in
# it, so the
# versions and checksums stand in their go.mod and go.sum. Prints each
# binary's path. CGO is off: no C compiler is needed, and the binaries are
# static, so that a container image can hold nothing else.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
bin=${PILOTFISH_BIN_DIR:-$here/../.cache/bin}

fail() { echo "tools/build.sh: $*" >&2; exit 1; }

# locate NAME: sets module (a folder beside this file), package and ldflags.
locate() {
	ldflags='-s -w'
	case $1 in
	kube-apiserver | kube-controller-manager | kube-scheduler | kubelet | kube-proxy | kubectl)
		module=kube package=k8s.io/kubernetes/cmd/$1
		version=$(sed -n 's|.*k8s.io/kubernetes v\([0-9.]*\).*|\1|p' "$here/kube/go.mod")
		minor=${version#*.} minor=${minor%%.*}
		for at in component-base client-go/pkg; do
			v=k8s.io/$at/version
			ldflags="$ldflags -X $v.gitVersion=v$version -X $v.gitMajor=${version%%.*} -X $v.gitMinor=$minor"
		done
		;;
	flagger) module=flagger package=github.com/fluxcd/flagger/cmd/flagger ;;
	helm) module=helm package=helm.sh/helm/v4/cmd/helm ;;
	rollouts-controller) module=rollouts package=github.com/argoproj/argo-rollouts/cmd/rollouts-controller ;;
	coredns) module=coredns package=github.com/coredns/coredns ;;
	otelcol | otelcol-contrib) module=$1 package=. ;;
	ratelimit) module=ratelimit package=. ;;
	floor) module=floor package=. ;;
	etcd) module=etcd package=go.etcd.io/etcd/server/v3 ;;
	istioctl | pilot-agent | pilot-discovery)
		module=istio
		case $1 in istioctl) package=istio.io/istio/istioctl/cmd/istioctl ;; *) package=istio.io/istio/pilot/cmd/$1 ;; esac
		version=$(sed -n 's|.*istio.io/istio v0.0.0-\([0-9a-f-]*\).*|\1|p' "$here/istio/go.mod")
		ldflags="$ldflags -X istio.io/istio/pkg/version.buildVersion=1.31-$version"
		;;
	golangci-lint) module=lint package=github.com/golangci/golangci-lint/v2/cmd/golangci-lint ;;
	*) fail "unknown tool $1" ;;
	esac
}

# stamp: what a binary depends on besides its module's checksums.
stamp() {
	echo "$package $ldflags $(go env GOVERSION GOOS GOARCH | tr '\n' ' ')"
	cat "$here/$module/go.mod" "$here/$module/go.sum"
	[ "$package" != . ] || cat "$here/$module"/*.go
}

build() {
	locate "$1"
	want=$(stamp | cksum)
	if [ ! -x "$bin/$1" ] || [ "$(cat "$bin/.$1.stamp" 2>/dev/null)" != "$want" ]; then
		echo "building $1 (once; a cold build takes minutes)" >&2
		(cd "$here/$module" && GOWORK=off CGO_ENABLED=0 GOFLAGS='-mod=readonly -buildvcs=false' \
			go build -trimpath -ldflags "$ldflags" -o "$bin/.$1.new" "$package") || fail "cannot build $1"
		extra=''
		[ "$1" = pilot-agent ] && extra=$(cd "$here/$module" && GOWORK=off go list -m -f '{{.Dir}}' istio.io/istio)/tools/packaging/common/envoy_bootstrap.json
		[ -z "$extra" ] || install -m 644 "$extra" "$bin/envoy_bootstrap.json" # its template of Envoy's bootstrap
		[ "$1" != pilot-discovery ] || (charts=$(cd "$here/$module" && GOWORK=off go list -m -f '{{.Dir}}' istio.io/istio)/manifests/charts
			rm -rf "$bin/istio-charts" && mkdir "$bin/istio-charts" # the charts that install it
			cp -r "$charts/base" "$charts/gateway" "$charts/istio-control/istio-discovery" "$bin/istio-charts" && chmod -R u+w "$bin/istio-charts")
		[ "$1" != flagger ] || install -m 644 \
			"$(cd "$here/$module" && GOWORK=off go list -m -f '{{.Dir}}' github.com/fluxcd/flagger)/charts/flagger/crds/crd.yaml" "$bin/flagger-crds.yaml"
		[ "$1" != rollouts-controller ] || (crds=$(cd "$here/$module" && GOWORK=off go list -m -f '{{.Dir}}' github.com/argoproj/argo-rollouts)/manifests/crds
			for f in "$crds"/*-crd.yaml; do echo ---; cat "$f"; done >"$bin/rollouts-crds.yaml")
		# Renamed when whole: nobody sees half a binary, and one in use lives on.
		mv "$bin/.$1.new" "$bin/$1"
		echo "$want" >"$bin/.$1.stamp"
	fi
	echo "$bin/$1"
}

[ $# -gt 0 ] || fail "usage: tools/build.sh NAME..."
command -v go >/dev/null || fail "Go is missing: https://go.dev/doc/install"
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)
if command -v flock >/dev/null; then
	exec 9>"$bin/.lock"
	flock 9 # two builds of one tool would only compete
fi
for name in "$@"; do build "$name"; done
