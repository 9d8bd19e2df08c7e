//! The cluster's folder: initdb, the profile, and what a killed node left behind.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use tokio::process::Command;

use super::{
    account::Account,
    binaries::Binaries,
    error::{EmbeddedError, Tried},
    memory, place, process,
    tune::{self, Machine},
};

/// The superuser, and the only user, of an embedded server.
pub(super) const USER: &str = "postrider";
/// How long a program of PostgreSQL may take: initdb on a slow disk is the longest.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(120);
const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(30);
const QUICK_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster in a data directory.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// The cluster's own folder, `PGDATA`.
    pub(super) dir: PathBuf,
    data_dir: PathBuf,
}

/// What `postmaster.pid` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: u32,
    pub(super) is_ready: bool,
}

impl Cluster {
    /// The cluster of a data directory, made or not.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("postgres"), data_dir: data_dir.to_owned() }
    }

    /// The major version that made it. `None` where there is none yet.
    pub(super) fn major(&self) -> Result<Option<u32>, EmbeddedError> {
        let path = self.dir.join("PG_VERSION");
        let what = || format!("read {}", path.display());
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other).tried(what),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).tried(what),
        }
    }

    /// The user that an existing cluster must run as.
    pub(super) fn account(&self) -> Result<Account, EmbeddedError> {
        let facts = fs::metadata(&self.dir).tried(|| format!("read {}", self.dir.display()))?;
        Account::owner(facts.uid(), facts.gid()).ok_or_else(|| EmbeddedError::Foreign {
            dir: self.data_dir.clone(),
            owner: facts.uid(),
        })
    }

    /// Makes the cluster. It appears by a rename, so an interrupted try leaves nothing that
    /// looks like one.
    pub(super) async fn make(
        &self,
        binaries: &Binaries,
        account: &Account,
    ) -> Result<(), EmbeddedError> {
        let fresh = self.data_dir.join("postgres.new");
        let what = || format!("make {}", fresh.display());
        if fresh.exists() {
            fs::remove_dir_all(&fresh).tried(what)?;
        }
        fs::create_dir(&fresh).tried(what)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o700)).tried(what)?;
        account.give(&fresh).tried(what)?;
        let initdb = |locale: &str| {
            let mut command = account.command(binaries.program("initdb"));
            command.arg("-D").arg(&fresh).args(["-U", USER, "--encoding=UTF8", locale]);
            command.args(["--data-checksums", "--auth-local=trust", "--auth-host=reject"]);
            command
        };
        match run("initdb", initdb("--locale=C.UTF-8")).await {
            Err(EmbeddedError::Program { output, .. })
                if output.contains("invalid locale name") =>
            {
                run("initdb", initdb("--locale=C")).await?;
            }
            outcome => drop(outcome?),
        }
        let conf = fresh.join("postgresql.conf");
        let appended = OpenOptions::new().append(true).open(&conf).and_then(|mut file| {
            file.write_all(tune::INCLUDE.as_bytes())?;
            file.sync_all()
        });
        appended.tried(|| format!("write {}", conf.display()))?;
        fs::rename(&fresh, &self.dir).tried(what)?;
        fs::File::open(&self.data_dir).and_then(|dir| dir.sync_all()).tried(what)
    }

    /// Writes the profile for this machine and this build of the server.
    pub(super) async fn tune(
        &self,
        binaries: &Binaries,
        account: &Account,
        socket_dir: &Path,
    ) -> Result<(), EmbeddedError> {
        let memory = memory::available_bytes();
        let machine =
            |wal_compression| Machine { memory, wal_compression, socket_dir, port: place::PORT };
        self.write_profile(&tune::profile(machine("on")), account)?;
        let mut probe = account.command(binaries.program("postgres"));
        probe.arg("-D").arg(&self.dir).args(["-c", "wal_compression=lz4", "-C", "wal_compression"]);
        match run("postgres", probe).await {
            Ok(answer) if answer.trim() == "lz4" => {
                self.write_profile(&tune::profile(machine("lz4")), account)
            }
            Ok(_) | Err(EmbeddedError::Program { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The folder belongs to the server's user, who could have put a link in the way: hence a
    /// new file and a rename.
    fn write_profile(&self, text: &str, account: &Account) -> Result<(), EmbeddedError> {
        let path = self.dir.join(tune::PROFILE_FILE);
        let fresh = self.dir.join(format!("{}.new", tune::PROFILE_FILE));
        let write = || {
            if fs::symlink_metadata(&fresh).is_ok() {
                fs::remove_file(&fresh)?;
            }
            let mut file = OpenOptions::new().write(true).create_new(true).open(&fresh)?;
            file.write_all(text.as_bytes())?;
            account.give(&fresh)?;
            fs::rename(&fresh, &path)
        };
        write().tried(|| format!("write {}", path.display()))
    }

    /// What the running server, or one that died, wrote about itself.
    pub(super) fn pid_file(&self) -> Option<PidFile> {
        parse_pid_file(&fs::read_to_string(self.dir.join("postmaster.pid")).ok()?)
    }

    /// The folder of the socket on which a server of this cluster accepts connections now.
    pub(super) fn running_socket(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.dir.join("postmaster.pid")).ok()?;
        let file = parse_pid_file(&text).filter(|file| file.is_ready)?;
        let socket = text.lines().nth(4).filter(|line| !line.trim().is_empty())?;
        process::serves(file.pid, &self.dir).then(|| PathBuf::from(socket.trim()))
    }

    /// Stops what outlived its node: the server, or backends of a server that was killed. True
    /// if there was something. The caller holds the lock of the data directory, so nobody else
    /// runs this server.
    pub(super) async fn stop_leftover(&self) -> Result<bool, EmbeddedError> {
        let postmaster = self.pid_file().map(|file| file.pid);
        if let Some(pid) = postmaster {
            if process::serves(pid, &self.dir) {
                tracing::warn!(pid, "stopping the PostgreSQL that an earlier run left behind");
                return self.stop(pid).await.map(|()| true);
            }
            self.forget_stale_pid(pid)?;
        }
        let orphans = process::all_in(&self.dir);
        for pid in &orphans {
            process::signal(*pid, Signal::QUIT);
        }
        for pid in &orphans {
            if !process::gone(*pid, &self.dir, QUICK_STOP_TIMEOUT).await {
                return Err(EmbeddedError::Leftover { pid: *pid });
            }
        }
        Ok(!orphans.is_empty())
    }

    async fn stop(&self, pid: u32) -> Result<(), EmbeddedError> {
        for (signal, patience) in
            [(Signal::INT, FAST_STOP_TIMEOUT), (Signal::QUIT, QUICK_STOP_TIMEOUT)]
        {
            process::signal(pid, signal);
            if process::gone(pid, &self.dir, patience).await {
                return Ok(());
            }
        }
        Err(EmbeddedError::Leftover { pid })
    }

    /// PostgreSQL itself takes no notice of a file whose process is gone, but stops at one whose
    /// number now belongs to another process.
    fn forget_stale_pid(&self, pid: u32) -> Result<(), EmbeddedError> {
        if !process::exists(pid) {
            return Ok(());
        }
        tracing::warn!(pid, "the process file of an earlier run names a process that is not ours");
        let path = self.dir.join("postmaster.pid");
        fs::remove_file(&path).tried(|| format!("remove {}", path.display()))
    }
}

fn parse_pid_file(text: &str) -> Option<PidFile> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let is_ready = lines.nth(6).is_some_and(|status| status.trim() == "ready");
    Some(PidFile { pid, is_ready })
}

/// Runs a program to its end and returns what it wrote.
async fn run(program: &'static str, mut command: Command) -> Result<String, EmbeddedError> {
    let output = match tokio::time::timeout(PROGRAM_TIMEOUT, command.output()).await {
        Ok(output) => output.tried(|| format!("run {program}"))?,
        Err(_) => {
            let output = format!("no end after {} s", PROGRAM_TIMEOUT.as_secs());
            return Err(EmbeddedError::Program { program, output });
        }
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(EmbeddedError::Program { program, output: format!("{}, {}", output.status, said.trim()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_postmaster_s_file() {
        let text = "4242\n/d/postgres\n1764000000\n5432\n/d/socket\n\n  1234 5\nready   \n";
        assert_eq!(parse_pid_file(text), Some(PidFile { pid: 4242, is_ready: true }));
        let starting = text.replace("ready", "starting");
        assert_eq!(parse_pid_file(&starting), Some(PidFile { pid: 4242, is_ready: false }));
        let early = parse_pid_file("4242\n/d/postgres\n");
        assert_eq!(early, Some(PidFile { pid: 4242, is_ready: false }));
        assert_eq!(parse_pid_file(""), None);
    }
}
