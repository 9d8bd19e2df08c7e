#!/usr/bin/env bash
# The topology of docker-compose.yml from local processes: a PostgreSQL and its synchronous
# standby, three nodes, nginx in front. Everything listens on loopback and lies in one folder; only
# what was started from that folder is ever ended.
#
#   deploy/topology.sh up|down|status|promote [--dir DIR] [--port PORT] [--bin POSTRIDER] [--clean]
#
# PORT (8080) is nginx's; the nodes have the three after it and the PostgreSQLs the two after them.
# DIR keeps the data: `up` again goes on from there, `down --clean` removes it. `promote` ends the
# primary, dead or alive, makes the standby the primary and the other one its standby. As root,
# PostgreSQL runs as the user `postgres`, or `nobody` where there is none.
set -euo pipefail
REPOSITORY=$(cd "$(dirname "$0")/.." && pwd)
readonly REPOSITORY

dir=${TMPDIR:-/tmp}/postrider-topology-$(id -u)
port=8080
bin=
clean=

say() { echo "topology: $*" >&2; }

fail() {
  say "$*"
  exit 1
}

read_arguments() {
  command=${1:-}
  shift || true
  while [ $# -gt 0 ]; do
    case "$1" in
      --dir) dir=$2 && shift 2 ;;
      --port) port=$2 && shift 2 ;;
      --bin) bin=$2 && shift 2 ;;
      --clean) clean=1 && shift ;;
      *) fail "no such argument: $1" ;;
    esac
  done
  [[ "$port" =~ ^[0-9]+$ ]] || fail "not a port: $port"
}

# The server binaries, newest version first, as `postrider serve` looks for them.
find_postgres() {
  local version folder
  for version in 18 17 16 15; do
    for folder in "/usr/lib/postgresql/$version/bin" "/usr/pgsql-$version/bin" \
      "/opt/homebrew/opt/postgresql@$version/bin" "/usr/local/opt/postgresql@$version/bin"; do
      if [ -x "$folder/postgres" ]; then
        echo "$folder"
        return
      fi
    done
  done
  folder=$(command -v postgres) || fail "no PostgreSQL here: deploy/setup.sh test installs one"
  dirname "$(readlink -f "$folder")"
}

find_nginx() {
  PATH="$PATH:/usr/sbin" command -v nginx || fail "no nginx here: deploy/setup.sh test installs it"
}

# The newest build, unless --bin names one.
find_postrider() {
  local target=${CARGO_TARGET_DIR:-$REPOSITORY/target}
  if [ -z "$bin" ]; then
    # One of them may not be there.
    bin=$(ls -t "$target"/{release,debug}/postrider 2>/dev/null | head -n 1 || true)
  fi
  [ -n "$bin" ] && [ -x "$bin" ] || fail "no postrider binary: cargo build --release"
}

# PostgreSQL refuses to run as root.
choose_database_user() {
  as_database_user=(env)
  if [ "$(id -u)" = 0 ]; then
    database_user=postgres
    id "$database_user" >/dev/null 2>&1 || database_user=nobody
    as_database_user=(setpriv --reuid="$database_user" --regid="$(id -g "$database_user")"
      --clear-groups --)
  fi
}

# When the process $1 started, nothing if it has ended. An id can be given anew; with its start
# time it is one process.
started_at() {
  local state
  if [ -d /proc/self ]; then
    # After the name in brackets, which may hold spaces: the state, and 19 fields on the start.
    state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 0
    [[ "$state" != Z* ]] && cut -d ' ' -f 20 <<<"$state" || true
  else
    ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' '_' || true
  fi
}

# Whether the process that $1.pid names still runs, and is the one that was started then.
is_running() {
  local pid start
  [ -s "$dir/$1.pid" ] || return 1
  read -r pid start <"$dir/$1.pid"
  [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ]
}

# Starts "$2…" as the process named $1, detached from this terminal.
start() {
  local name=$1
  shift
  (cd "$dir" && exec nohup "$@" >>"$dir/$name.log" 2>&1 </dev/null) &
  echo "$! $(started_at $!)" >"$dir/$name.pid"
}

# Waits until "$3…" succeeds, at most $2 seconds and only while the process $1 lives.
await() {
  local name=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    is_running "$name" || fail "$name ended: see $dir/$name.log"
    [ "$SECONDS" -lt "$deadline" ] || fail "$name is not ready: see $dir/$name.log"
    sleep 0.1
  done
}

answers() {
  local line
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
  read -r -t 5 line <&3
  exec 3>&-
  [[ "$line" == *" 200 "* ]]
}

make_folder() {
  mkdir -p "$dir"
  [ -O "$dir" ] || fail "$dir belongs to somebody else"
  # Others may pass through (PostgreSQL's and nginx's users do), and list nothing.
  chmod 711 "$dir"
  dir=$(cd "$dir" && pwd)
  mkdir -p "$dir/nginx" && chmod 711 "$dir/nginx"
}

# Of the two PostgreSQLs: the folder of number $1, its port, and which of them is the primary.
data_of() { if [ "$1" = 1 ]; then echo "$dir/data"; else echo "$dir/data$1"; fi; }
port_of() { echo $((port + 3 + $1)); }
primary() { cat "$dir/primary" 2>/dev/null || echo 1; }

make_database() {
  local password="$dir/password"
  [ ! -e "$dir/data/PG_VERSION" ] || return 0
  say "initialising PostgreSQL in $dir/data"
  (umask 077 && head -c 24 /dev/urandom | od -A n -t x1 | tr -d ' \n' >"$password")
  mkdir -p "$dir/data"
  cp "$password" "$dir/password.initdb"
  [ "$(id -u)" != 0 ] || chown "$database_user" "$dir/data" "$dir/password.initdb"
  (cd "$dir" && "${as_database_user[@]}" "$postgres/initdb" --pgdata="$dir/data" \
    --username=postrider --pwfile="$dir/password.initdb" --auth=scram-sha-256 \
    --data-checksums --encoding=UTF8 \
    --locale=C.UTF-8 >"$dir/initdb.log") || fail "initdb failed: see $dir/initdb.log"
  rm "$dir/password.initdb"
  # Appended, not included: PostgreSQL's user may not be able to read the repository.
  "${as_database_user[@]}" tee -a "$dir/data/postgresql.conf" >/dev/null \
    <"$REPOSITORY/deploy/postgresql.conf"
}

# Makes number $1 a standby of the primary, unless it is one.
make_standby() {
  local data
  data=$(data_of "$1")
  [ ! -e "$data/standby.signal" ] || return 0
  say "copying the primary to $data"
  rm -rf "$data" && mkdir -p "$data" && chmod 700 "$data"
  [ "$(id -u)" != 0 ] || chown "$database_user" "$data"
  (cd "$dir" && PGPASSWORD=$(cat "$dir/password") "${as_database_user[@]}" \
    "$postgres/pg_basebackup" --pgdata="$data" --write-recovery-conf --checkpoint=fast \
    --host=127.0.0.1 --port="$(port_of "$(primary)")" --username=postrider \
    >"$dir/basebackup.log" 2>&1) || fail "no copy of the primary: see $dir/basebackup.log"
}

# Starts number $1. A commit of a `replicated` topic waits for whichever standby there is.
start_database() {
  local name="postgres$1" own
  own=$(port_of "$1")
  say "PostgreSQL on 127.0.0.1:$own"
  is_running "$name" || start "$name" "${as_database_user[@]}" "$postgres/postgres" \
    -D "$(data_of "$1")" -c listen_addresses=127.0.0.1 -c port="$own" \
    -c unix_socket_directories= -c 'synchronous_standby_names=*'
  await "$name" 60 "$postgres/pg_isready" --host=127.0.0.1 --port="$own"
}

start_databases() {
  local first
  first=$(primary)
  start_database "$first"
  make_standby $((3 - first))
  start_database $((3 - first))
}

start_nodes() {
  local n
  DATABASE_URL="postgres://postrider:$(cat "$dir/password")@127.0.0.1:$(port_of 1)"
  DATABASE_URL="$DATABASE_URL,127.0.0.1:$(port_of 2)/postgres"
  export DATABASE_URL
  for n in 1 2 3; do
    say "node$n on 127.0.0.1:$((port + n))"
    is_running "node$n" || POSTRIDER_NODE_NAME="node$n" start "node$n" \
      "$bin" serve --listen "127.0.0.1:$((port + n))"
  done
  for n in 1 2 3; do await "node$n" 60 answers $((port + n)) /readyz; done
}

start_nginx() {
  local n
  say "nginx on http://127.0.0.1:$port"
  cp "$REPOSITORY/deploy/nginx.conf" "$dir/nginx/nginx.conf"
  for n in 1 2 3; do echo "server 127.0.0.1:$((port + n)) max_fails=0;"; done \
    >"$dir/nginx/upstream.conf"
  echo "listen 127.0.0.1:$port;" >"$dir/nginx/listen.conf"
  is_running nginx || start nginx "$nginx" -p "$dir/nginx" -c nginx.conf -e stderr -g 'daemon off;'
  await nginx 10 answers "$port" /readyz
}

up() {
  postgres=$(find_postgres)
  nginx=$(find_nginx)
  find_postrider
  choose_database_user
  make_folder
  make_database
  start_databases
  start_nodes
  start_nginx
  say "up; it stays up until: $0 down --dir $dir"
}

# Ends what $1.pid names with signal $2; after 30 s with KILL.
stop() {
  local name=$1 pid deadline=$((SECONDS + 30))
  is_running "$name" || return 0
  read -r pid _ <"$dir/$name.pid"
  kill -s "$2" "$pid"
  while is_running "$name"; do
    if [ "$SECONDS" -ge "$deadline" ]; then kill -s KILL "$pid"; fi
    sleep 0.1
  done
  rm -f "$dir/$name.pid"
}

down() {
  local name
  [ -d "$dir" ] || return 0
  stop nginx QUIT
  for name in node1 node2 node3; do stop "$name" TERM; done
  # INT is PostgreSQL's fast shutdown; TERM would wait for clients to leave. The standby gets the
  # primary's last words.
  stop "postgres$(primary)" INT
  stop "postgres$((3 - $(primary)))" INT
  if [ -n "$clean" ]; then rm -rf "$dir"; fi
  say "down"
}

# A standby that takes over. The old primary must never take writes again: it is ended first, and
# what it had alone is given up.
promote() {
  local old
  postgres=$(find_postgres)
  choose_database_user
  make_folder
  old=$(primary)
  is_running "postgres$((3 - old))" || fail "there is no standby: $0 up --dir $dir"
  stop "postgres$old" INT
  "${as_database_user[@]}" "$postgres/pg_ctl" promote -w -D "$(data_of $((3 - old)))" \
    >"$dir/promote.log" 2>&1 || fail "no promotion: see $dir/promote.log"
  echo $((3 - old)) >"$dir/primary"
  start_databases
  say "the primary is postgres$((3 - old)) on 127.0.0.1:$(port_of $((3 - old)))"
}

status() {
  local name code=0
  for name in postgres1 postgres2 node1 node2 node3 nginx; do
    if is_running "$name"; then
      echo "$name up, pid $(cut -d ' ' -f 1 "$dir/$name.pid")"
    else
      echo "$name down"
      code=1
    fi
  done
  return $code
}

read_arguments "$@"
case "$command" in
  up | down | status | promote) "$command" ;;
  *) fail "say up, down, status or promote" ;;
esac
