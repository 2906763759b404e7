#!/usr/bin/env bash
# Finds what the broker tests run against, or makes it.
#
#   engine.sh up [nats] [kafka]
#                     a container engine that answers and the image of each broker (of both, if none is named);
#                     prints key=value lines on stdout
#   engine.sh sweep   removes containers, volumes and networks whose owner is dead
#   engine.sh down    stops the engine, if `up` started it and nothing runs in it any more
#
# In this order:
#   1. CLEARWAY_TEST_NATS=nats://host:port or CLEARWAY_TEST_KAFKA=host:port names a server that is already there:
#      nothing to do for that one.
#   2. An engine that answers. The image: the official one if it is present or can be pulled, else one built
#      here from packages (images/build.sh).
#   3. No engine: as root on a Debian-like machine it is installed and started. Otherwise one line says what is
#      missing and how to go on, and the exit status is 1. No test passes because there was no broker.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
declare -A official=([nats]=nats:2.15 [kafka]=apache/kafka:4.3.1)
log=/var/log/clearway-dockerd.log
started=/run/clearway-dockerd.pid # the process id of the engine that `up` started

say() { echo "integration: $*" >&2; }
fail() { say "$*"; exit 1; }
limited() { if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi; }
root() { [ "$(id -u)" = 0 ]; }
answers() { limited 30 docker version --format '{{.Server.Version}}'; }

servers="CLEARWAY_TEST_NATS=nats://host:port and CLEARWAY_TEST_KAFKA=host:port to servers that are there"
ways_out="start an engine (Debian: apt-get install docker.io), or set $servers"

# ---- the engine

engine() {
  local answer
  if answer=$(answers 2>/dev/null); then
    echo "engine=docker $answer$(ours)"
    return
  fi
  case "$(answers 2>&1)" in
    *"permission denied while trying to connect"*) fail "no broker to test against: a container engine is there but user $(id -un) may not use it; join the group docker, or set $servers" ;;
  esac
  [ "${DOCKER_HOST:-unix:///var/run/docker.sock}" = unix:///var/run/docker.sock ] ||
    fail "no broker to test against: no engine answers at DOCKER_HOST=$DOCKER_HOST; $ways_out"
  root || fail "no broker to test against: no container engine answers here, and only root may install one; $ways_out"
  [ "$(uname -s)" = Linux ] || fail "no broker to test against: no container engine answers here; $ways_out"
  install_engine
  start_engine
  echo "engine=docker $(answers)$(ours)"
}

ours() { ! daemon >/dev/null || echo ", started by engine.sh"; }
# The engine that `up` started, if it still runs.
daemon() { [ "$(cat "/proc/$(cat "$started" 2>/dev/null)/comm" 2>/dev/null)" = dockerd ] && cat "$started"; }

install_engine() {
  command -v dockerd >/dev/null && command -v docker >/dev/null && return
  command -v apt-get >/dev/null || fail "no broker to test against: no container engine here, and no apt-get to install one with; $ways_out"
  local packages=(docker.io) output
  say "no container engine on this machine: installing docker.io"
  output=$(mktemp)
  {
    apt-get update
    # Newer Debians ship the command in a package of its own.
    command -v docker >/dev/null || ! apt-cache show docker-cli >/dev/null 2>&1 || packages+=(docker-cli)
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${packages[@]}"
  } >"$output" 2>&1 || { tail -n 20 "$output" >&2; rm -f "$output"; fail "installing docker.io failed (its last words are above); $ways_out"; }
  rm -f "$output"
}

start_engine() {
  answers >/dev/null 2>&1 && return # the package started it
  if [ -d /run/systemd/system ]; then
    systemctl start docker || fail "systemctl could not start docker; see journalctl -u docker"
    return
  fi
  # A session of its own and no inherited descriptor: it outlives this script and holds no lock or pipe of it.
  setsid dockerd </dev/null >>"$log" 2>&1 9>&- &
  local daemon=$! tries=0
  until answers >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ] || ! kill -0 "$daemon" 2>/dev/null; then
      tail -n 15 "$log" >&2
      fail "dockerd does not answer (its last words are above, all of them in $log); $ways_out"
    fi
    sleep 0.2
  done
  echo "$daemon" >"$started"
  say "started dockerd (process $daemon, log $log); it stays up unless CLEARWAY_STOP_ENGINE=1"
}

down() {
  local pid tries=0
  pid=$(daemon) || return 0
  [ -z "$(docker ps --quiet)" ] || { say "dockerd stays: containers run in it"; return; }
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null && [ $tries -lt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
  rm -f "$started"
  say "stopped dockerd"
}

# ---- the image

image() {
  local name=$1 wanted=${official[$1]} built
  if docker image inspect "$wanted" >/dev/null 2>&1; then
    printf '%s.image=%s\n%s.way=official image, present\n' "$name" "$wanted" "$name"
  elif built=$("$here/images/build.sh" --current "$name"); then
    printf '%s.image=%s\n%s.way=built here from packages\n' "$name" "$built" "$name"
  elif say "pulling $wanted" && limited 120 docker pull --quiet "$wanted" >/dev/null 2>&1; then
    printf '%s.image=%s\n%s.way=official image, pulled\n' "$name" "$wanted" "$name"
  else
    say "$wanted cannot be pulled: building a local image from packages"
    built=$("$here/images/build.sh" "$name") || exit 1
    printf '%s.image=%s\n%s.way=built here from packages\n' "$name" "$built" "$name"
  fi
}

# ---- what dead runs left behind

# Process ids mean something only inside one machine and one process namespace.
scope() { echo "$(uname -n)-$(readlink /proc/self/ns/pid 2>/dev/null | tr -dc 0-9)"; }

# An owner is "pid.start time": a process id alone may have been given to somebody else by now.
alive() {
  local pid=${1%%.*} start=${1#*.} stat
  [ -d /proc/self ] || { kill -0 "$pid" 2>/dev/null; return; }
  stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
  stat=${stat##*) } # the command's name may hold spaces
  [ "$(cut -d' ' -f20 <<<"$stat")" = "$start" ]
}

sweep() {
  local mine
  mine=label=clearway.scope=$(scope)
  docker container ls --all --filter "$mine" --format '{{.Names}} {{.Label "clearway.owner"}}' | remove_dead container rm --force --volumes
  docker volume ls --filter "$mine" --format '{{.Name}} {{.Label "clearway.owner"}}' | remove_dead volume rm --force
  docker network ls --filter "$mine" --format '{{.Name}} {{.Label "clearway.owner"}}' | remove_dead network rm
}

# Reads "name owner" lines. Another run may be sweeping at the same time: what cannot be removed stops nobody.
remove_dead() {
  local name owner
  while read -r name owner; do
    alive "$owner" && continue
    say "removing $1 $name of dead process ${owner%%.*}"
    docker "$@" "$name" </dev/null >/dev/null 2>&1 || say "could not remove $1 $name; the next run tries again"
  done
}

up() {
  local name given wanted=()
  [ $# -gt 0 ] || set -- nats kafka
  for name; do
    [ -n "${official[$name]:-}" ] || fail "no broker named $name"
    given=CLEARWAY_TEST_${name^^}
    [ -n "${!given:-}" ] || wanted+=("$name")
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  # One at a time: two test programs must not install or build side by side.
  if command -v flock >/dev/null; then exec 9<"${BASH_SOURCE[0]}"; flock 9; fi
  engine
  sweep
  for name in "${wanted[@]}"; do image "$name"; done
  echo "scope=$(scope)"
}

case "${1:-}" in
  up) shift; up "$@" ;;
  sweep) answers >/dev/null 2>&1 && sweep || true ;;
  down) down ;;
  *) fail "usage: engine.sh up [nats] [kafka] | sweep | down" ;;
esac
