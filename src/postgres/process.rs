//! Processes of the server that are not this process's children.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Sends a signal; a process that has gone is no error.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = pid_of(pid)
        && let Err(error) = kill_process(pid, signal)
    {
        tracing::debug!(?pid, ?signal, %error, "signal not delivered");
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Whether the process is a PostgreSQL that works in `dir`, where a postmaster and its backends
/// stay all their lives: a number alone may belong to any process since the machine started anew,
/// and a shell may stand in any folder.
pub(super) fn serves(pid: u32, dir: &Path) -> bool {
    if Path::new("/proc/self").exists() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
        return matches!(name.trim_end(), "postgres" | "postmaster")
            && cwd.is_ok_and(|cwd| cwd == dir);
    }
    exists(pid) && command_line(pid).is_some_and(|line| line.contains(&*dir.to_string_lossy()))
}

/// Whether any process has this number.
pub(super) fn exists(pid: u32) -> bool {
    let answer = pid_of(pid).map(test_kill_process);
    matches!(answer, Some(Ok(()) | Err(rustix::io::Errno::PERM)))
}

/// The command line of a process on systems without `/proc`.
fn command_line(pid: u32) -> Option<String> {
    let mut command = std::process::Command::new("ps");
    let output = command.args(["-o", "command=", "-p", &pid.to_string()]).output().ok()?;
    String::from_utf8(output.stdout).ok()
}

/// All processes of PostgreSQL that work in `dir`; without `/proc`, none.
pub(super) fn all_in(dir: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| serves(*pid, dir))
        .collect()
}

/// Waits until the process no longer works in `dir`. False after `patience`.
pub(super) async fn gone(pid: u32, dir: &Path, patience: Duration) -> bool {
    let since = Instant::now();
    while serves(pid, dir) {
        if since.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}
