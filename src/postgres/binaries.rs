//! Finding a PostgreSQL server on this machine: the folder that was named, `PATH`, then where
//! Debian, Fedora and Homebrew put versions, the newest first.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
};

use super::{account::Account, error::EmbeddedError};

/// The major versions that Postrider runs on, the newest first.
pub const MAJORS: [u32; 4] = [18, 17, 16, 15];

/// A server that can run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    /// The folder with `postgres` and `initdb`.
    pub(super) dir: PathBuf,
    /// Its major version.
    pub(super) major: u32,
    /// The version in full, as it calls itself.
    pub(super) version: String,
}

impl Binaries {
    /// The path of one of its programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Where to look.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    /// The folder that the user named; then nothing else is looked at.
    pub(super) named: Option<PathBuf>,
    /// `PATH`.
    pub(super) path: OsString,
    /// The folders of the system's packages, in order.
    pub(super) folders: Vec<PathBuf>,
}

impl Search {
    /// The places of this machine.
    pub(super) fn here(named: Option<PathBuf>) -> Self {
        let packaged = |major: u32| {
            [
                format!("/usr/lib/postgresql/{major}/bin"),
                format!("/usr/pgsql-{major}/bin"),
                format!("/opt/homebrew/opt/postgresql@{major}/bin"),
                format!("/usr/local/opt/postgresql@{major}/bin"),
            ]
        };
        let folders = MAJORS.into_iter().flat_map(packaged).chain(["/usr/bin".to_owned()]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self { named, path, folders: folders.map(PathBuf::from).collect() }
    }

    /// The first server that `account` can run and whose major version is `needed` or, without
    /// that, one of [`MAJORS`]. A folder that was named must do.
    pub(super) async fn run(
        &self,
        account: &Account,
        needed: Option<u32>,
    ) -> Result<Option<Binaries>, EmbeddedError> {
        if let Some(dir) = &self.named {
            let found = inspect(dir, account).await.and_then(|found| fits(found, needed));
            return match found {
                Ok(found) => Ok(Some(found)),
                Err(why) => Err(EmbeddedError::BinDir { dir: dir.clone(), why }),
            };
        }
        let on_path = std::env::split_paths(&self.path);
        for dir in on_path.chain(self.folders.iter().cloned()) {
            let Ok(found) = inspect(&dir, account).await else { continue };
            match fits(found, needed) {
                Ok(found) => return Ok(Some(found)),
                Err(why) => tracing::debug!(dir = %dir.display(), why, "PostgreSQL passed over"),
            }
        }
        Ok(None)
    }
}

fn fits(found: Binaries, needed: Option<u32>) -> Result<Binaries, String> {
    match needed {
        Some(major) if found.major != major => Err(format!(
            "it is version {}, and the data directory was made by version {major}",
            found.major
        )),
        None if !MAJORS.contains(&found.major) => {
            Err(format!("it is version {}; Postrider runs on 15 to 18", found.major))
        }
        _ => Ok(found),
    }
}

/// Asks the `postgres` of a folder for its version, as the user that would run it: that a
/// program is there does not say that this user may come to it.
pub(super) async fn inspect(dir: &Path, account: &Account) -> Result<Binaries, String> {
    let link = dir.join("postgres");
    let real = link.canonicalize().map_err(|_| "there is no program postgres".to_owned())?;
    let dir = real.parent().unwrap_or(dir).to_owned();
    if !dir.join("initdb").is_file() {
        return Err(format!("{} has no initdb beside postgres", dir.display()));
    }
    let mut command = account.command(&real);
    let output = command.arg("--version").stderr(Stdio::null()).output().await;
    let output = output.map_err(|error| {
        format!("the user {} cannot run {}: {error}", account.name(), real.display())
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (major, version) =
        parse_version(&text).ok_or_else(|| format!("it does not tell its version: {text:?}"))?;
    Ok(Binaries { dir, major, version })
}

/// Reads `postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)` and `… 18beta1`.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    Some((version[..digits].parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// A folder with programs that only tell a version.
    fn fake(root: &Path, name: &str, version: &str) -> PathBuf {
        let dir = root.join(name);
        fs::create_dir_all(&dir).expect("folder");
        for program in ["postgres", "initdb"] {
            let text = format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n");
            fs::write(dir.join(program), text).expect("program");
            fs::set_permissions(dir.join(program), fs::Permissions::from_mode(0o755))
                .expect("mode");
        }
        dir
    }

    fn open_tempdir() -> tempfile::TempDir {
        let mode = fs::Permissions::from_mode(0o755);
        tempfile::Builder::new().permissions(mode).tempdir().expect("tempdir")
    }

    #[test]
    fn reads_versions() {
        let read = |text| parse_version(text).map(|(major, _)| major);
        assert_eq!(read("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n"), Some(15));
        assert_eq!(read("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(read("mysqld 8.0"), None);
    }

    #[tokio::test]
    async fn path_goes_before_folders_and_what_does_not_fit_is_passed_over() {
        let root = open_tempdir();
        let old = fake(root.path(), "old", "14.3");
        let path = fake(root.path(), "path", "16.1");
        let (new, other) = (fake(root.path(), "new", "18.6"), fake(root.path(), "other", "15.1"));
        let account = Account::choose();
        let search = |dirs: &[&PathBuf]| Search {
            named: None,
            path: std::env::join_paths(dirs).expect("paths"),
            folders: vec![new.clone(), other.clone()],
        };
        let dir = |found: Option<Binaries>| found.map(|found| found.dir);
        let first = search(&[&old, &path]).run(&account, None).await.expect("search");
        assert_eq!(dir(first), Some(path.canonicalize().expect("path")));
        let newest = search(&[&old]).run(&account, None).await.expect("search");
        assert_eq!(dir(newest), Some(new.canonicalize().expect("path")));
        let exact = search(&[&path]).run(&account, Some(15)).await.expect("search");
        assert_eq!(dir(exact), Some(other.canonicalize().expect("path")));
        assert_eq!(search(&[&path]).run(&account, Some(17)).await.expect("search"), None);
    }

    #[tokio::test]
    async fn a_link_on_the_path_leads_to_the_folder_with_initdb() {
        let root = open_tempdir();
        let real = fake(root.path(), "real", "17.2");
        let links = root.path().join("links");
        fs::create_dir(&links).expect("folder");
        std::os::unix::fs::symlink(real.join("postgres"), links.join("postgres")).expect("link");
        let search = Search { path: links.into_os_string(), ..Search::default() };
        let found = search.run(&Account::choose(), None).await.expect("search").expect("found");
        assert_eq!((found.dir, found.major), (real.canonicalize().expect("path"), 17));
    }

    #[tokio::test]
    async fn a_named_folder_must_do() {
        let root = open_tempdir();
        let named = |dir: PathBuf| Search { named: Some(dir), ..Search::default() };
        let account = Account::choose();
        let old = named(fake(root.path(), "old", "14.3")).run(&account, None).await;
        assert!(old.expect_err("too old").to_string().contains("it is version 14"));
        let other = named(fake(root.path(), "new", "18.6")).run(&account, Some(15)).await;
        assert!(other.expect_err("not the data's").to_string().contains("made by version 15"));
        let empty = named(root.path().join("none")).run(&account, None).await;
        assert!(empty.expect_err("nothing there").to_string().contains("no program postgres"));
    }
}
