//! Why the embedded server did not start.

use std::{io, path::PathBuf};

/// Why the embedded server did not start. Every message ends with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Another process holds the data directory.
    #[error(
        "the data directory {} is in use by {}; stop that one or give another --data-dir",
        .dir.display(), holder(*.pid)
    )]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// Who holds it, where the lock file tells.
        pid: Option<u32>,
    },
    /// Postrider is root, and the user that the server runs as cannot come to the directory.
    #[error(
        "the server runs as the user {user} because Postrider is root, and {user} cannot enter \
         {}, so not use the data directory {}; run `chmod a+x {}`, give a --data-dir elsewhere \
         (such as /var/lib/postrider), or run Postrider as another user than root",
        .blocked.display(), .dir.display(), .blocked.display()
    )]
    Unreachable {
        /// The data directory.
        dir: PathBuf,
        /// The folder on the way to it that is closed.
        blocked: PathBuf,
        /// The server's user.
        user: String,
    },
    /// The cluster in the data directory belongs to somebody else.
    #[error(
        "the database in {} belongs to the user with id {owner}; run Postrider as that user or \
         as root, or give another --data-dir",
        .dir.display()
    )]
    Foreign {
        /// The data directory.
        dir: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// The folder that was given for the binaries is of no use.
    #[error("no usable PostgreSQL in {}: {why}", .dir.display())]
    BinDir {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No binaries on this machine, and none could be fetched.
    #[error(
        "no PostgreSQL {wanted} was found on this machine and none could be downloaded ({why}); \
         install it (Debian: apt-get install postgresql), name its folder, or give a database URL"
    )]
    NoServer {
        /// The versions that would do.
        wanted: String,
        /// Why the download failed.
        why: String,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Which one.
        program: &'static str,
        /// What it said.
        output: String,
    },
    /// The server did not come up.
    #[error("PostgreSQL did not start ({why}); its last words: {output}")]
    DidNotStart {
        /// How it ended, or that it took too long.
        why: String,
        /// The end of what it wrote.
        output: String,
    },
    /// A server of a killed node lives on and does not react.
    #[error(
        "the server of an earlier run (process {pid}) does not stop; end it with \
         `kill -QUIT {pid}` and start again"
    )]
    Leftover {
        /// Its process id.
        pid: u32,
    },
    /// The node was told to stop meanwhile.
    #[error("stopped while PostgreSQL was starting")]
    Interrupted,
    /// The file system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("the process {pid}"))
}

/// Says what was tried when the file system refuses.
pub(super) trait Tried<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, EmbeddedError>;
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, EmbeddedError> {
        self.map_err(|source| EmbeddedError::Io { what: what(), source })
    }
}
