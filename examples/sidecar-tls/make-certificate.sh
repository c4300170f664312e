#!/bin/sh
# Writes a self-signed certificate for shop.example.com, valid for 30 days, its key, and the Sidecar
# that uses them into the folder "made" beside this script. In a cluster the files are a Secret
# mounted into the sidecar (annotations sidecar.istio.io/userVolume and userVolumeMount).
set -eu
umask 077
mkdir -p "$(dirname "$0")/made"
cd "$(dirname "$0")/made"
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=shop.example.com \
  -addext subjectAltName=DNS:shop.example.com -keyout tls.key -out tls.crt 2>.log || {
  cat .log >&2
  exit 1
}
rm .log
cat > sidecar.yaml <<END
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata:
  name: shop
spec:
  workloadSelector:
    labels: {app: shop}
  ingress:
  - port: {number: 8080, name: http, protocol: HTTP}
    defaultEndpoint: 127.0.0.1:8080
  - port: {number: 9443, name: https, protocol: HTTPS}
    defaultEndpoint: 127.0.0.1:8080
    tls:
      mode: SIMPLE
      serverCertificate: $PWD/tls.crt
      privateKey: $PWD/tls.key
END
# In network namespaces, as in a pod, the proxy is user 1337.
[ "$(id -u)" != 0 ] || chown -R 1337 .
