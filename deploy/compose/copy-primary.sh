#!/usr/bin/env bash
# The start of the standby: copies the primary where there is no data yet, then runs "$@".
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  chmod 700 "$PGDATA"
  pg_basebackup --pgdata="$PGDATA" --write-recovery-conf --checkpoint=fast \
    --host=postgres --username=postrider
fi
exec "$@"
