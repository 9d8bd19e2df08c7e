#!/usr/bin/env bash
# Proves `make run` and `make test` on a new Debian 12: debootstraps a minimal system that has
# git, make, curl, this machine's Rust toolchain and Node, clones the repository's HEAD into it,
# runs `make run` until the README's own curl lines have published and read a message, stops it,
# starts it again, reads again, and runs `make test`. Needs root, and port 8080 free.
#
#   deploy/fresh.sh             TEST=0 leaves `make test` out, KEEP=1 leaves the system's folder
#
# The system lives in namespaces of its own: when they end, so do all its processes and mounts.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly STARTS_WITHIN_S=1800

say() { echo "fresh: $*" >&2; }

fail() {
  say "$*"
  exit 1
}

# Where this machine gets Debian's packages from, if it says so.
mirror() {
  command -v apt-get >/dev/null || return 0
  apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' |
    awk '$2 == "bookworm" && !found { print $1; found = 1 }'
}

# What a new machine of this network would be given: name service, package sources, certificates.
copy_network() {
  local file
  cp -L /etc/resolv.conf /etc/hosts "$system/etc/"
  mkdir -p "$system/usr/local/share/ca-certificates"
  cp -a /usr/local/share/ca-certificates/. "$system/usr/local/share/ca-certificates/"
  if [ ! -e /etc/os-release ] || ! grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
    return
  fi
  rm -f "$system/etc/apt/sources.list"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
    /etc/apt/sources.list.d/*.sources; do
    [ ! -e "$file" ] || cp "$file" "$system$file"
  done
  apt-config dump | grep '^Acquire::' >"$system/etc/apt/apt.conf.d/90machine"
  for file in /etc/pip.conf /root/.cargo/config.toml; do
    [ ! -e "$file" ] || install -D -m 644 "$file" "$system$file"
  done
}

copy_tools() {
  mkdir -p "$system/opt/rust"
  install -D "$(readlink -f "$(command -v node)")" "$system/usr/local/bin/node"
}

make_system() {
  say "debootstrap of Debian 12 into $system"
  # shellcheck disable=SC2046
  debootstrap --variant=minbase --include=git,make,curl bookworm "$system" $(mirror) \
    >"$work/debootstrap.log" 2>&1 || fail "debootstrap failed: see $work/debootstrap.log"
  copy_network
  copy_tools
  git clone --quiet --no-local . "$system/root/postrider"
  git status --short | grep -q . && say "what is not committed is not in it"
  say "$(git -C "$system/root/postrider" log -1 --format='%h %s')"
}

mount_system() {
  mount -t proc proc "$system/proc"
  mount --bind /dev "$system/dev"
  mount --bind /dev/pts "$system/dev/pts"
  mount -t tmpfs tmpfs "$system/dev/shm"
  mount --bind -o ro "$(rustc --print sysroot)" "$system/opt/rust"
}

# Runs "$@" inside, in the clone, with a new user's environment and this network's proxies.
inside() {
  local name proxies=()
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    if [ -n "${!name:-}" ]; then proxies+=("$name=${!name}"); fi
  done
  env -i HOME=/root LANG=C.UTF-8 TERM=dumb ${proxies[@]+"${proxies[@]}"} \
    PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$system" sh -c 'cd /root/postrider && exec "$@"' sh "$@"
}

# Somebody who may not install packages is told the line that does, and nothing else happens.
prove_the_line() {
  local said
  said=$(inside setpriv --reuid=65534 --clear-groups bash deploy/setup.sh run 2>&1) &&
    fail "setup.sh succeeded as nobody, without a compiler"
  grep -q "^sudo sh -c 'apt-get update && apt-get install .*gcc" <<<"$said" ||
    fail "setup.sh names no line to run: $said"
}

# The README's lines that speak to the node, as they stand there.
demo() {
  sed -n '/<!-- demo -->/,/<!-- end -->/p' README.md | grep '^curl '
}

start_node() {
  inside make run >>"$work/run.log" 2>&1 &
  node=$!
  local deadline=$((SECONDS + STARTS_WITHIN_S))
  until curl --fail --silent --output /dev/null http://127.0.0.1:8080/readyz; do
    kill -0 "$node" 2>/dev/null || fail "make run ended: $(tail -n 20 "$work/run.log")"
    [ "$SECONDS" -lt "$deadline" ] || fail "not ready: $(tail -n 20 "$work/run.log")"
    sleep 1
  done
}

# As Ctrl-C does it: the whole process group of `make` is told.
stop_node() {
  kill -s INT -- "-$node"
  wait "$node" || true
  if curl --silent --output /dev/null http://127.0.0.1:8080/healthz; then
    fail "the node outlived make run"
  fi
}

prove_run() {
  local started=$SECONDS line last answer
  start_node
  say "make run: ready after $((SECONDS - started)) s"
  while read -r line; do
    answer=$(inside bash -c "$line" 2>>"$work/curl.log") || fail "failed: $line: $answer"
    say "$line"
    say "  $answer"
    last=$line
  done < <(demo)
  grep -q '"hello"' <<<"$answer" || fail "the README's last line did not read the message"
  stop_node
  started=$SECONDS
  start_node
  answer=$(inside bash -c "$last" 2>>"$work/curl.log") || fail "failed after the restart: $last"
  grep -q '"hello"' <<<"$answer" || fail "the message is gone after a restart: $answer"
  stop_node
  say "make run again: $((SECONDS - started)) s, and the message is still there"
}

prove_test() {
  local started=$SECONDS
  inside make test 2>&1 </dev/null | tee "$work/test.log" | tail -n 30
  say "make test: $((SECONDS - started)) s"
}

# The part inside the namespaces.
prove() {
  set -m
  mount_system
  prove_the_line
  prove_run
  if [ "${TEST:-1}" != 0 ]; then prove_test; fi
}

if [ "${1:-}" = --inside ]; then
  work=$2
  system=$work/system
  prove
  exit
fi

[ "$(id -u)" = 0 ] || fail "debootstrap and chroot need root"
if curl --silent --output /dev/null http://127.0.0.1:8080/; then fail "port 8080 is taken"; fi
demo >/dev/null || fail "the README has no demo"
work=$(mktemp -d "${TMPDIR:-/var/tmp}/postrider-fresh.XXXXXX")
system=$work/system
mkdir "$system"
if [ "${KEEP:-0}" = 0 ]; then
  # The mounts are gone with their namespace: nothing of this machine lies below the folder.
  trap 'rm -rf --one-file-system "$work"' EXIT
else
  say "KEEP=1: $work stays"
fi
make_system
unshare --mount --pid --fork --kill-child --propagation private \
  bash "$PWD/deploy/fresh.sh" --inside "$work"
if [ "${TEST:-1}" != 0 ]; then
  say "make run and make test work on a new Debian 12"
else
  say "make run works on a new Debian 12"
fi
