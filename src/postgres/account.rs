//! The user that the server runs as. PostgreSQL refuses root, so a Postrider that is root gives
//! the server to `postgres`, else to `nobody`; otherwise both are one user.

use std::{
    ffi::OsStr,
    io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

const NOBODY: u32 = 65_534;

/// The user that the server and its tools run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    name: String,
    ids: Option<Ids>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ids {
    user: u32,
    group: u32,
}

impl Account {
    /// The user for this process.
    pub(super) fn choose() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self { name: "you".to_owned(), ids: None };
        }
        Self::unprivileged(&read_passwd())
    }

    /// `postgres` where `/etc/passwd` (given as text) has it, else `nobody`.
    fn unprivileged(passwd: &str) -> Self {
        let of = |name: &str| {
            entries(passwd)
                .find(|entry| entry.name == name && entry.ids.user != 0)
                .map(|entry| Self { name: name.to_owned(), ids: Some(entry.ids) })
        };
        of("postgres").or_else(|| of("nobody")).unwrap_or_else(|| Self {
            name: "nobody".to_owned(),
            ids: Some(Ids { user: NOBODY, group: NOBODY }),
        })
    }

    /// The owner of an existing cluster: it must run as that user and no other. `None` where
    /// this process may not become that user.
    pub(super) fn owner(user: u32, group: u32) -> Option<Self> {
        let own = rustix::process::geteuid();
        if own.as_raw() == user && !own.is_root() {
            return Some(Self { name: "you".to_owned(), ids: None });
        }
        if !own.is_root() || user == 0 {
            return None;
        }
        let passwd = read_passwd();
        let name = entries(&passwd).find(|entry| entry.ids.user == user);
        let name = name.map_or_else(|| user.to_string(), |entry| entry.name.to_owned());
        Some(Self { name, ids: Some(Ids { user, group }) })
    }

    /// Its name, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its user id.
    pub(super) fn user(&self) -> u32 {
        self.ids.map_or_else(|| rustix::process::geteuid().as_raw(), |ids| ids.user)
    }

    /// Whether it is another user than this process's.
    pub(super) fn is_other(&self) -> bool {
        self.ids.is_some()
    }

    /// A command that runs as this user, in `/`, without this process's `PG…` variables, which
    /// would redirect the server's tools.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Some(ids) = self.ids {
            command.gid(ids.group).uid(ids.user);
        }
        command
    }

    /// Makes the user the owner of `path`.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        self.ids.map_or(Ok(()), |ids| chown(path, Some(ids.user), Some(ids.group)))
    }

    /// The first folder on the way to `dir`, from the root, that the user cannot enter. What is
    /// not there yet is no obstacle.
    pub(super) async fn first_blocked(&self, dir: &Path) -> Option<PathBuf> {
        if !self.is_other() {
            return None;
        }
        let mut way: Vec<&Path> = dir.ancestors().filter(|folder| folder.is_dir()).collect();
        if self.can_enter(way.first()?).await {
            return None;
        }
        way.reverse();
        // Without a shell to ask with, the start itself will tell.
        let can_ask = self.can_enter(Path::new("/")).await;
        for folder in way.into_iter().filter(|_| can_ask) {
            if !self.can_enter(folder).await {
                return Some(folder.to_owned());
            }
        }
        None
    }

    /// Asks the kernel rather than the mode bits, which do not tell of access lists.
    async fn can_enter(&self, dir: &Path) -> bool {
        let mut probe = self.command("/bin/sh");
        probe.arg("-c").arg(":").current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().await.is_ok_and(|status| status.success())
    }
}

struct Entry<'a> {
    name: &'a str,
    ids: Ids,
}

/// The entries of `/etc/passwd`; ids may be written as negative numbers (macOS).
fn entries(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    let id =
        |text: &str| text.parse().ok().or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned));
    passwd.lines().filter_map(move |line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, user, group, ..] = fields[..] else { return None };
        Some(Entry { name, ids: Ids { user: id(user)?, group: id(group)? } })
    })
}

/// Without the file there is no user `postgres`.
fn read_passwd() -> String {
    std::fs::read_to_string("/etc/passwd").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(user: u32, group: u32) -> Option<Ids> {
        Some(Ids { user, group })
    }

    #[test]
    fn root_gives_the_server_to_postgres_else_to_nobody() {
        let both = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:\npostgres:x:101:104:";
        assert_eq!(Account::unprivileged(both).ids, ids(101, 104));
        assert_eq!(Account::unprivileged(both).name(), "postgres");
        assert_eq!(Account::unprivileged("nobody:x:65534:65533::/:").ids, ids(65_534, 65_533));
        assert_eq!(Account::unprivileged("").ids, ids(NOBODY, NOBODY));
        assert_eq!(Account::unprivileged("postgres:x:0:0:").ids, ids(NOBODY, NOBODY));
        assert_eq!(
            Account::unprivileged("nobody:*:-2:-2::/:").ids,
            ids(u32::MAX - 1, u32::MAX - 1)
        );
    }
}
