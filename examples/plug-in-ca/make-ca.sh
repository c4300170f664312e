#!/bin/sh
# Writes secret.yaml beside this script: a root that stays offline, and an intermediate authority of it that
# signs the workloads' certificates, as Secret cacerts. In a cluster apply it before the installation.
set -eu
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
new() { # name, subject, then what signs it
  name=$1 subject=$2
  shift 2
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "$subject" \
    -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout "$tmp/$name-key" -out "$tmp/$name" "$@" 2>"$tmp/log" || { cat "$tmp/log" >&2; exit 1; }
}
new root "/O=example.com/CN=Root CA"
new ca "/O=example.com/CN=Intermediate CA" -CA "$tmp/root" -CAkey "$tmp/root-key"
b64() { base64 <"$tmp/$1" | tr -d '\n'; }
umask 077
cat > .secret.new <<END
apiVersion: v1
kind: Secret
metadata: {name: cacerts, namespace: istio-system}
data:
  ca-cert.pem: $(b64 ca)
  ca-key.pem: $(b64 ca-key)
  cert-chain.pem: $(b64 ca)
  root-cert.pem: $(b64 root)
END
mv .secret.new secret.yaml
