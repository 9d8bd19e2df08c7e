//! The tuning profile: what a log that is mostly appended to asks of PostgreSQL. It is written
//! anew at each start and included at the end of `postgresql.conf`; a line after that include
//! wins, so a user can overrule it.

use std::path::Path;

/// The name of the profile's file, in the cluster's folder.
pub(super) const PROFILE_FILE: &str = "postgresql.postrider.conf";
/// The line that brings it in.
pub(super) const INCLUDE: &str = "\n# Postrider's profile. Lines below this one win over it.\n\
                                  include 'postgresql.postrider.conf'\n";

const MIB: u64 = 1024 * 1024;
const SHARED_BUFFERS_MIN: u64 = 64 * MIB;
const SHARED_BUFFERS_MAX: u64 = 2048 * MIB;

/// What the profile depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine<'a> {
    /// The memory of the machine or of this container, in bytes.
    pub(super) memory: u64,
    /// A value of `wal_compression` that this build of the server knows.
    pub(super) wal_compression: &'a str,
    /// The folder of the socket.
    pub(super) socket_dir: &'a Path,
    /// The number in the socket's name.
    pub(super) port: u16,
}

/// A quarter of the memory, within bounds, in MiB.
fn shared_buffers_mib(memory: u64) -> u64 {
    (memory / 4).clamp(SHARED_BUFFERS_MIN, SHARED_BUFFERS_MAX) / MIB
}

/// The text of the profile.
pub(super) fn profile(machine: Machine<'_>) -> String {
    let socket_dir = machine.socket_dir.to_string_lossy().replace('\'', "''");
    let Machine { wal_compression, port, .. } = machine;
    let shared_buffers = shared_buffers_mib(machine.memory);
    format!(
        "# Written by Postrider at each start; changes here are lost. Put yours at the end of
# postgresql.conf.

# An acknowledged message survives any crash.
fsync = on
full_page_writes = on
synchronous_commit = on

# Only this machine, only through the private socket.
listen_addresses = ''
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
port = {port}
max_connections = 100
cluster_name = 'postrider'

# Checkpoints far apart: every first change of a page after one writes the page to the WAL.
max_wal_size = 8GB
checkpoint_timeout = 15min
wal_compression = {wal_compression}
shared_buffers = {shared_buffers}MB

# Hot tables are inserted into, pruned at one end and dropped as a whole: look often and early
# for dead rows, and do not read a table again for each fifth of it that was added.
autovacuum = on
autovacuum_naptime = 10s
autovacuum_vacuum_scale_factor = 0.05
autovacuum_analyze_scale_factor = 0.05
autovacuum_vacuum_insert_scale_factor = 1.0
autovacuum_vacuum_cost_limit = 1000
# Each flush takes a transaction id; sealed buckets are frozen by Postrider, dropped ones never.
autovacuum_freeze_max_age = 1000000000
autovacuum_multixact_freeze_max_age = 1000000000

# Short statements that never pay for compilation or for helpers.
jit = off
max_parallel_workers_per_gather = 0

# A week of logs, a file a day, without the text of statements.
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_min_error_statement = panic
log_timezone = 'UTC'
timezone = 'UTC'
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_buffers_are_a_quarter_within_bounds() {
        assert_eq!(shared_buffers_mib(4096 * MIB), 1024);
        assert_eq!(shared_buffers_mib(64 * 1024 * MIB), 2048);
        assert_eq!(shared_buffers_mib(100 * MIB), 64);
    }

    #[test]
    fn a_quote_in_the_socket_s_folder_ends_no_string() {
        let socket_dir = Path::new("/tmp/o'clock");
        let text = profile(Machine { memory: 0, wal_compression: "on", socket_dir, port: 5432 });
        assert!(text.contains("unix_socket_directories = '/tmp/o''clock'\n"));
    }
}
