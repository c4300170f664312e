#!/bin/sh
# Writes secret.yaml beside this script: a self-signed certificate for *.example.com, valid for
# 30 days, in the namespace of the gateway that pilotfish up makes. Run it again while the
# gateway serves: the next connection gets the new certificate.
set -eu
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=*.example.com" \
  -addext "subjectAltName=DNS:*.example.com" -keyout "$tmp/key" -out "$tmp/cert" 2>"$tmp/log" || {
  cat "$tmp/log" >&2
  exit 1
}
umask 077
cat > .secret.new <<END
apiVersion: v1
kind: Secret
metadata:
  name: telemetry-gw-cert
  namespace: istio-system
type: kubernetes.io/tls
data:
  tls.crt: $(base64 <"$tmp/cert" | tr -d '\n')
  tls.key: $(base64 <"$tmp/key" | tr -d '\n')
END
mv .secret.new secret.yaml
