//! The processes that are measured: started, watched through /proc, and ended with the bench.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

/// How long a process may take to end by itself.
const STOP: Duration = Duration::from_secs(30);

/// A child process that is ended when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own (Ctrl-C reaches only the bench, which then
    /// ends its children in order), with its output in `log`.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self { child, log: log.into() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails, with the end of its output, when it no longer runs.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("ended by itself with {status}: {}", self.last_output()),
        }
    }

    /// The end of what it printed.
    pub fn last_output(&self) -> String {
        last_lines(&self.log)
    }

    /// Asks it to end, waits, and kills it when it does not.
    pub fn stop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        signal(self.pid(), Signal::TERM);
        if self.wait(STOP).is_none() {
            eprintln!("process {} did not end in {STOP:?}, killing it", self.pid());
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Prints the end of every log in `folder`, which is about to be removed.
pub fn print_logs(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let files = entries.flatten().map(|entry| entry.path());
    for file in files.filter(|file| file.extension().is_some_and(|kind| kind == "log")) {
        let end = last_lines(&file);
        if !end.is_empty() {
            eprintln!("{}:\n{end}", file.display());
        }
    }
}

fn last_lines(file: &Path) -> String {
    let output = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Lets this process, and those it starts, open as many files as the system allows: ten thousand
/// polls are ten thousand sockets on either side.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Sends `signal` to `pid`, if it still runs.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process of this id runs.
pub fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/stat")).exists()
}

/// Processor time that a process has used so far. Zero for one that is gone.
pub fn cpu(pid: u32) -> Duration {
    stat(pid).map_or(Duration::ZERO, |fields| ticks(&fields, 11) + ticks(&fields, 12))
}

/// Processor time that a PostgreSQL has used: its postmaster, the backends that run, and those
/// that have ended.
pub fn cpu_of_postgres(postmaster: u32) -> Duration {
    let ended =
        stat(postmaster).map_or(Duration::ZERO, |fields| ticks(&fields, 13) + ticks(&fields, 14));
    cpu(postmaster) + ended + children(postmaster).into_iter().map(cpu).sum::<Duration>()
}

/// The greatest resident size that a process ever had, in bytes.
pub fn peak_memory(pid: u32) -> Option<u64> {
    kibibytes(pid, "VmHWM:")
}

/// The resident size of a process, in bytes.
pub fn memory(pid: u32) -> Option<u64> {
    kibibytes(pid, "VmRSS:")
}

fn kibibytes(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1_024)
}

/// Time that all processors together were busy since the machine started.
pub fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<_> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).collect();
    // user, nice, system; then idle and iowait, which are not work; then irq, softirq.
    [0, 1, 2, 5, 6].into_iter().map(|index| ticks(&fields, index)).sum()
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let parent_of = stat(*pid).and_then(|fields| fields.get(1)?.parse().ok());
        parent_of == Some(parent)
    })
    .collect()
}

/// The fields after the program's name, which may hold spaces.
fn stat(pid: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = line.rsplit_once(')')?;
    Some(fields.split_whitespace().map(String::from).collect())
}

fn ticks(fields: &[impl AsRef<str>], index: usize) -> Duration {
    let ticks = fields.get(index).and_then(|field| field.as_ref().parse::<u64>().ok());
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks.unwrap_or(0) * 1_000 / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        let began = Instant::now();
        // By its own time, not by the clock: a loaded machine may give it none for seconds.
        while cpu(pid) < Duration::from_millis(20) {
            assert!(began.elapsed() < Duration::from_secs(30), "no time was counted");
        }
        assert!(busy() >= cpu(pid));
        assert!(peak_memory(pid).is_some_and(|bytes| bytes > 1_000_000));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut process = Process::start(command, &folder.path().join("log")).unwrap();
        let pid = process.pid();
        process.check().unwrap();
        drop(process);
        assert!(!runs(pid));
    }
}
