#!/bin/sh
# Compiles the programs into dist/, where the Dockerfiles look for them.
# They are static, because the images start from scratch, and for Linux on the
# engine's architecture (or the one given), because that is where they run.
set -eu
cd "$(dirname "$0")"

arch=${1:-}
[ -n "$arch" ] || arch=$(docker version --format '{{.Server.Arch}}' 2>/dev/null) || arch=$(go env GOARCH)

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
CGO_ENABLED=0 GOOS=linux GOARCH="$arch" GOWORK=off \
	go build -buildvcs=false -trimpath -ldflags '-s -w' -o "$fresh/" ./cmd/...

# Somebody may be copying dist/ now: it changes only where the programs have.
mkdir -p dist
for program in api store; do
	cmp -s "$fresh/$program" "dist/$program" && continue
	cp "$fresh/$program" "dist/.$program.$$"
	mv -f "dist/.$program.$$" "dist/$program"
done
echo "dist/api and dist/store are up to date for linux/$arch" >&2
