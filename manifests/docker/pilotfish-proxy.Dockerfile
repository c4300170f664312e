# The image of sidecars and gateways, for docker and buildah:
#   make build && docker build -f manifests/docker/pilotfish-proxy.Dockerfile -t docker.io/pilotfish/pilotfish-proxy:dev .
# `make images` makes the same image without either.
FROM docker.io/envoyproxy/envoy:distroless-v1.40.0 AS envoy

FROM docker.io/library/debian:12-slim AS files
COPY bin/pilotfish-agent /out/usr/local/bin/pilotfish-agent
# pilot-agent is the name that Istio's injection templates use; the folders
# are the agent's working files, where pods usually mount volumes.
RUN ln -s pilotfish-agent /out/usr/local/bin/pilot-agent \
 && mkdir -p /out/etc/istio/proxy /out/var/lib/istio/data \
 && chown 1337:1337 /out/etc/istio/proxy /out/var/lib/istio/data

FROM gcr.io/distroless/base-nossl-debian12
COPY --from=envoy /usr/local/bin/envoy /usr/local/bin/envoy
COPY --from=files /out/ /
USER 1337:1337
ENTRYPOINT ["/usr/local/bin/pilotfish-agent"]
