# The control plane's image, for docker and buildah:
#   make build && docker build -f manifests/docker/pilotfish.Dockerfile -t docker.io/pilotfish/pilotfish:dev .
# `make images` makes the same image without either.
FROM gcr.io/distroless/static-debian12
COPY bin/pilotfish /usr/local/bin/pilotfish
USER 1337:1337
ENTRYPOINT ["/usr/local/bin/pilotfish"]
CMD ["serve"]
