#!/usr/bin/env bash
# Builds a local broker image from package registries, for a machine that can pull none.
#
#   build.sh NAME...         clearway-local/NAME:VERSION, for each folder NAME beside this file
#   build.sh --current NAME  prints the image and succeeds if it is there and up to date; builds nothing
#
# A folder holds: version, Dockerfile, needs ("command package" a line), and prepare CONTEXT VERSION, which fills
# the build context. An image whose label equals the checksum of these files is left as it is.
set -euo pipefail
images=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
space=clearway-local

fail() { echo "$*" >&2; exit 1; }
tag() { echo "$space/$1:$(cat "$images/$1/version")"; }
checksum() { (cd "$images" && find build.sh "$1" -type f | LC_ALL=C sort | xargs sha256sum) | sha256sum | cut -c1-16; }
current() { [ "$(docker image inspect --format '{{index .Config.Labels "clearway.builder"}}' "$(tag "$1")" 2>/dev/null)" = "$(checksum "$1")" ]; }

# What the builder itself needs: installed as root on a Debian-like machine, named everywhere else.
provide() {
  local command package missing=()
  while read -r command package; do
    command -v "$command" >/dev/null || missing+=("$package")
  done <"$images/$1/needs"
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    fail "no $1 image can be pulled, and building one here needs: ${missing[*]} (install them, or pull or load the official image)"
  echo "installing ${missing[*]} to build $(tag "$1")" >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >&2
}

build() (
  context=$(mktemp -d)
  log=$(mktemp)
  trap 'rm -rf "$context" "$log"' EXIT
  provide "$1"
  "$images/$1/prepare" "$context" "$(cat "$images/$1/version")"
  # The plain builder: it is in every engine, also where buildx is not installed. It says that it is deprecated.
  DOCKER_BUILDKIT=0 docker build --quiet --force-rm --label "clearway.builder=$(checksum "$1")" \
    --tag "$(tag "$1")" "$context" >"$log" 2>&1 || { cat "$log" >&2; fail "building $(tag "$1") failed"; }
)

if [ "${1:-}" = --current ]; then
  current "$2" && tag "$2"
  exit
fi
[ $# -gt 0 ] || fail "usage: build.sh NAME... (one of: $(cd "$images" && echo */))"
for name in "$@"; do
  [ -f "$images/$name/Dockerfile" ] || fail "no folder $images/$name"
  current "$name" || build "$name"
  tag "$name"
done
