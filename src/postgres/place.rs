//! Where things lie: the data directory, the lock on it, and the folder of the private socket.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Seek, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use super::{
    account::Account,
    error::{EmbeddedError, Tried},
};

/// The data directory of a user who names none, below the working directory.
const DEFAULT_DIR: &str = "postrider-data";
/// The same for root, where the server's user cannot come to the working directory.
const ROOT_DIR: &str = "/var/lib/postrider";
/// Systems refuse longer paths of sockets: 108 bytes on Linux, 104 on macOS, with the NUL.
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// The number in the socket's name; no port is listened on.
pub(super) const PORT: u16 = 5432;

/// The data directory that was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    /// What to tell the user about the choice.
    pub(super) notice: Option<String>,
}

/// The directory that was asked for, before it is known whether the server's user can come to
/// it.
pub(super) fn wanted(requested: Option<&Path>, cwd: &Path) -> PathBuf {
    cwd.join(requested.unwrap_or(Path::new(DEFAULT_DIR)))
}

/// Decides on the data directory, given the folder on the way to the wanted one that is closed
/// to the server's user. An explicit directory is never replaced by another.
pub(super) fn choose(
    wanted: PathBuf,
    explicit: bool,
    blocked: Option<PathBuf>,
    user: &str,
) -> Result<Place, EmbeddedError> {
    let Some(blocked) = blocked else { return Ok(Place { dir: wanted, notice: None }) };
    if explicit {
        return Err(EmbeddedError::Unreachable { dir: wanted, blocked, user: user.to_owned() });
    }
    let notice = format!(
        "the data lies in {ROOT_DIR}: PostgreSQL runs as the user {user} because Postrider is \
         root, and {user} cannot enter {}, so not use {}",
        blocked.display(),
        wanted.display()
    );
    Ok(Place { dir: PathBuf::from(ROOT_DIR), notice: Some(notice) })
}

/// Makes the data directory and what is missing above it, whatever the umask: closed to others
/// where this process and the server are one user, else open for the server's user to enter.
/// It stays this process's own, so that nobody else can put links where it writes.
pub(super) fn make_data_dir(dir: &Path, account: &Account) -> Result<PathBuf, EmbeddedError> {
    let mode = if account.is_other() { 0o755 } else { 0o700 };
    let mut missing: Vec<&Path> = dir.ancestors().take_while(|folder| !folder.exists()).collect();
    missing.reverse();
    for folder in missing {
        let what = || format!("make the folder {}", folder.display());
        fs::create_dir(folder).tried(what)?;
        fs::set_permissions(folder, Permissions::from_mode(mode)).tried(what)?;
    }
    dir.canonicalize().tried(|| format!("open the folder {}", dir.display()))
}

/// Proof that no other node uses the data directory, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a data directory or says who has it.
    pub(super) fn take(dir: &Path) -> Result<Self, EmbeddedError> {
        let path = dir.join("postrider.lock");
        let what = || format!("lock {}", path.display());
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).tried(what)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid =
                    file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(EmbeddedError::InUse { dir: dir.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(error).tried(what),
        }
        file.set_len(0).and_then(|()| file.rewind()).tried(what)?;
        writeln!(file, "{}", std::process::id()).tried(what)?;
        Ok(Self { _file: file })
    }
}

/// A folder for the socket that only the server's user can enter: in the data directory, or
/// where that path is too long, in the system's folder for such things.
pub(super) fn make_socket_dir(
    data_dir: &Path,
    account: &Account,
) -> Result<PathBuf, EmbeddedError> {
    let mut hash = DefaultHasher::new();
    data_dir.hash(&mut hash);
    let name = format!("postrider-{:016x}", hash.finish());
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !account.is_other());
    let run = account.is_other().then(|| PathBuf::from("/run"));
    let mut candidates = vec![data_dir.join("socket")];
    candidates.extend(runtime.map(|dir| Path::new(&dir).join(&name)));
    candidates.extend(run.map(|dir| dir.join(&name)));
    candidates.extend([std::env::temp_dir().join(&name), Path::new("/tmp").join(&name)]);
    let mut last = io::Error::other("every path for it is too long");
    for dir in candidates.iter().filter(|dir| is_short(dir)) {
        match make_private(dir, account) {
            Ok(()) => return Ok(dir.clone()),
            Err(error) => last = error,
        }
    }
    Err(last).tried(|| "make a folder for the server's socket".to_owned())
}

fn is_short(dir: &Path) -> bool {
    socket_path(dir).as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX
}

/// The socket in its folder.
pub(super) fn socket_path(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

/// Makes the folder, or takes an existing one that nobody else could have prepared.
fn make_private(dir: &Path, account: &Account) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => return account.give(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let facts = fs::symlink_metadata(dir)?;
    let own = rustix::process::geteuid().as_raw();
    if !facts.is_dir() || (facts.uid() != own && facts.uid() != account.user()) {
        return Err(io::Error::other(format!("{} belongs to somebody else", dir.display())));
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    account.give(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CWD: &str = "/root/work";

    #[test]
    fn a_reachable_directory_is_taken_as_it_is() {
        let here = wanted(None, Path::new(CWD));
        assert_eq!(here, Path::new("/root/work/postrider-data"));
        let place = choose(here.clone(), false, None, "nobody").expect("reachable");
        assert_eq!(place, Place { dir: here, notice: None });
        assert_eq!(wanted(Some(Path::new("d")), Path::new(CWD)), Path::new("/root/work/d"));
        assert_eq!(wanted(Some(Path::new("/d")), Path::new(CWD)), Path::new("/d"));
    }

    #[test]
    fn an_unreachable_default_goes_to_var_lib_and_says_so() {
        let here = wanted(None, Path::new(CWD));
        let place = choose(here, false, Some("/root".into()), "nobody").expect("falls back");
        assert_eq!(place.dir, Path::new("/var/lib/postrider"));
        let notice = place.notice.expect("a notice");
        assert!(notice.contains("/var/lib/postrider") && notice.contains("cannot enter /root,"));
    }

    #[test]
    fn an_unreachable_explicit_directory_is_refused_with_the_remedy() {
        let refused = choose("/root/d".into(), true, Some("/root".into()), "nobody");
        let text = refused.expect_err("refused").to_string();
        assert!(text.contains("`chmod a+x /root`"), "{text}");
        assert!(text.contains("/var/lib/postrider"), "{text}");
    }

    #[test]
    fn a_second_lock_is_refused_with_the_holder() {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = Lock::take(dir.path()).expect("first");
        let text = Lock::take(dir.path()).expect_err("second").to_string();
        assert!(text.contains(&format!("the process {}", std::process::id())), "{text}");
        assert!(text.contains(&*dir.path().to_string_lossy()), "{text}");
        drop(first);
        Lock::take(dir.path()).expect("free again");
    }

    #[test]
    fn a_socket_folder_that_somebody_else_made_is_not_taken() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        let account = Account::choose();
        make_private(&real, &account).expect("made");
        make_private(&real, &account).expect("taken again");
        std::os::unix::fs::symlink(&real, &link).expect("link");
        assert!(make_private(&link, &account).is_err(), "a link may lead anywhere");
    }
}
