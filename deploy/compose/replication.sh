#!/usr/bin/env bash
# Run once by the image of PostgreSQL, when the primary's data is made: lets the standby in.
set -euo pipefail
echo "host replication all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
