#!/usr/bin/env bash
# Checks what no compiler reads: scripts, docker-compose.yml, nginx.conf. A tool that is not here
# is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

here() { PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null; }

for script in deploy/*.sh deploy/compose/*.sh .ci/run; do bash -n "$script"; done
if here shellcheck; then shellcheck --severity=warning deploy/*.sh deploy/compose/*.sh .ci/run; fi

if docker compose version >/dev/null 2>&1; then
  docker compose config --quiet
elif python3 -c 'import yaml' 2>/dev/null; then
  python3 -c 'import sys, yaml; yaml.safe_load(sys.stdin)' <docker-compose.yml
fi

if here nginx; then
  prefix=$(mktemp -d)
  trap 'rm -rf "$prefix"' EXIT
  cp deploy/nginx.conf "$prefix/"
  echo 'listen 127.0.0.1:8080;' >"$prefix/listen.conf"
  sed 's/node[123]/127.0.0.1/' deploy/compose/upstream.conf >"$prefix/upstream.conf"
  PATH="$PATH:/usr/sbin" nginx -t -q -e stderr -p "$prefix" -c nginx.conf
fi
