#!/bin/sh
# rollout.sh NAME VERSION: promotes a version of a VirtualService, or rolls it
# back, and tells the pipeline what happened. The same step runs in
# .github/workflows/rollout.yaml, as a GitHub Actions workflow.
#
#   KUBECONFIG   of the cluster
#   PROMETHEUS   URL of a Prometheus that scrapes the proxies
#   NAMESPACE, STEPS, INTERVAL, MAX_ERROR_RATE, MAX_P99   see pilotfish rollout --help
#   REPORT       where the report goes
#   PILOTFISH_FLAGS   more flags, separated by spaces
set -eu

name=${1:?usage: rollout.sh NAME VERSION}
version=${2:?usage: rollout.sh NAME VERSION}
namespace=${NAMESPACE:-default}
report=${REPORT:-rollout.json}

rollout() {
	# shellcheck disable=SC2086 # PILOTFISH_FLAGS are several
	pilotfish rollout "vs/$name" -n "$namespace" --to "$version" --prometheus "$PROMETHEUS" ${PILOTFISH_FLAGS:-} "$@"
}

limits="--steps ${STEPS:-10,30,50,100} --interval ${INTERVAL:-1m} --max-error-rate ${MAX_ERROR_RATE:-1%} --max-p99 ${MAX_P99:-500ms}"

# Everything that could be wrong without touching a request.
# shellcheck disable=SC2086 # limits are several
rollout $limits --dry-run

code=0
# shellcheck disable=SC2086
rollout $limits --report "$report" || code=$?

case $code in
0) echo "$version is promoted" ;;
1) echo "$version was rolled back: see $report" ;;
2) echo "nothing was changed" ;;
*) echo "somebody must look: $name is in the middle of a rollout" ;;
esac
exit $code
