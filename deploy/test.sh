#!/usr/bin/env bash
# Runs the tests; the last lines are the runner's own summary. Fast tests come first: the order
# is .ci/nextest.toml's.
#
#   deploy/test.sh all|chaos|fresh [filter of cargo nextest]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/target/tools/bin:$PATH"

nextest() {
  exec cargo nextest run --locked --workspace --config-file .ci/nextest.toml "$@"
}

if ! cargo nextest --version >/dev/null 2>&1; then
  case "$1" in
    all) exec cargo test --locked --workspace --lib --bins --test '*' ;;
    *) exec cargo test --locked --lib --test '*' -- "$1" ;;
  esac
fi

case "$1" in
  all) nextest --profile "${NEXTEST_PROFILE:-default}" "${@:2}" ;;
  chaos) nextest --profile chaos -E 'test(/chaos/)' "${@:2}" ;;
  fresh) nextest -E 'test(/fresh/)' "${@:2}" ;;
  *) echo "test: no such set of tests: $1" >&2 && exit 1 ;;
esac
