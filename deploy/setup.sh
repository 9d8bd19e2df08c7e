#!/usr/bin/env bash
# Installs what a target of the Makefile needs and this machine lacks: from Debian's packages as
# root or by a sudo that asks nothing; else it prints the one line to run and stops. Silent, and
# without a look at the network, when nothing is missing.
#
#   deploy/setup.sh run|test|bench|fresh
set -euo pipefail
cd "$(dirname "$0")/.."

readonly NEXTEST=0.9.148
readonly TOOLS=target/tools

say() { echo "setup: $*" >&2; }

fail() {
  say "$*"
  exit 1
}

find_program() {
  PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null
}

has_compiler() {
  # Asks for a whole program: a compiler without libc6-dev compiles and cannot link.
  echo '#include <stdio.h>
int main(void) { return puts("") < 0; }' | cc -x c -o /dev/null - 2>/dev/null
}

has_certificates() {
  local file
  for file in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/ssl/cert.pem \
    /etc/pki/tls/certs/ca-bundle.crt; do
    if [ -n "$file" ] && [ -s "$file" ]; then return 0; fi
  done
  return 1
}

has_postgres() {
  local folder
  for folder in /usr/lib/postgresql/1[5-8]/bin /usr/pgsql-1[5-8]/bin \
    /opt/homebrew/opt/postgresql@1[5-8]/bin /usr/local/opt/postgresql@1[5-8]/bin; do
    if [ -x "$folder/postgres" ] && [ -x "$folder/psql" ] && [ -x "$folder/pg_dump" ]; then
      return 0
    fi
  done
  find_program postgres && find_program psql && find_program pg_dump
}

has_nextest() {
  local version
  version=$(PATH="$PWD/$TOOLS/bin:$PATH" cargo nextest --version 2>/dev/null) || return 1
  [[ "$version" == "cargo-nextest $NEXTEST"* ]]
}

has_venv() {
  python3 -c 'import ensurepip, venv' 2>/dev/null
}

# Prints the packages that `$1` needs and that are not here, one a line.
missing_packages() {
  has_compiler || printf '%s\n' gcc libc6-dev
  has_certificates || echo ca-certificates
  if [ "$1" = fresh ]; then
    find_program debootstrap || echo debootstrap
  fi
  if [ "$1" = test ]; then
    find_program nginx || echo nginx-light
    has_postgres || echo postgresql-15
    find_program curl || echo curl
    find_program openssl || echo openssl
    has_nextest || has_venv || echo python3-venv
  fi
}

# Runs as root. New services stay down: the tests start servers of their own, and neither
# nginx on port 80 nor a cluster on port 5432 is wanted.
# shellcheck disable=SC2016
readonly INSTALL='
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
get() {
  apt-get install --yes --no-install-recommends -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
    "$@" >/dev/null
}
if [ ! -e /usr/sbin/policy-rc.d ]; then
  trap "rm -f /usr/sbin/policy-rc.d" EXIT
  printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
fi
apt-get update -qq -o Acquire::Retries=3
case " $* " in *" postgresql-15 "*)
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    get postgresql-common
    sed -i "s/^#\?create_main_cluster.*/create_main_cluster = false/" \
      /etc/postgresql-common/createcluster.conf
  fi ;;
esac
get "$@"
if [ -d /run/systemd/system ]; then
  case " $* " in *" nginx-light "*) systemctl disable --quiet --now nginx || true ;; esac
fi
'

install_packages() {
  local line="apt-get update && apt-get install --yes --no-install-recommends $*"
  if ! find_program apt-get; then
    fail "missing here (the names are Debian's; install your system's counterparts): $*"
  elif [ "$(id -u)" = 0 ]; then
    say "installing $*"
    bash -c "$INSTALL" setup "$@" </dev/null >&2
  elif find_program sudo && sudo -n true 2>/dev/null; then
    say "installing $* (with sudo)"
    sudo -n bash -c "$INSTALL" setup "$@" </dev/null >&2
  else
    fail "run this line, then try again:
sudo sh -c '$line'"
  fi
}

check_toolchain() {
  find_program cargo || fail "no cargo on PATH: Postrider is built with Rust 1.94 or newer"
}

# A wheel with the runner takes a second, building it some minutes; without it the tests run
# all the same, under cargo's own runner.
install_nextest() {
  say "installing cargo-nextest $NEXTEST into $TOOLS"
  if has_venv && python3 -m venv "$TOOLS" && "$TOOLS/bin/pip" install --quiet \
    --disable-pip-version-check --require-hashes -r deploy/nextest.txt >&2 && has_nextest; then
    return
  fi
  say "no wheel for this machine: building it"
  cargo install --quiet --locked --root "$TOOLS" --version "$NEXTEST" cargo-nextest >&2 ||
    say "cargo-nextest could not be installed: cargo test runs the tests"
}

main() {
  local target=${1:-run} packages
  case "$target" in
    run | test | bench | fresh) ;;
    *) fail "no such target: $target" ;;
  esac
  check_toolchain
  mapfile -t packages < <(missing_packages "$target")
  if [ "${#packages[@]}" -gt 0 ]; then install_packages "${packages[@]}"; fi
  if [ "$target" = test ] && ! has_nextest; then install_nextest; fi
}

main "$@"
