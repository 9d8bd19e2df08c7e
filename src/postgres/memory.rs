//! How much memory this process may count on: the machine's, or less where a control group says
//! so, as in a container.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes of memory, at least as a guess.
pub(super) fn available_bytes() -> u64 {
    let group = group_limit(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup"));
    let machine = machine_bytes().unwrap_or(1 << 30);
    group.map_or(machine, |limit| limit.min(machine))
}

fn machine_bytes() -> Option<u64> {
    if let Some(bytes) = meminfo_total(&read("/proc/meminfo")) {
        return Some(bytes);
    }
    let output = std::process::Command::new("sysctl").args(["-n", "hw.memsize"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn meminfo_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The lowest limit of the groups that `/proc/self/cgroup` (given as text) names, and of all
/// above them. Inside a container the paths are often those of the host and lead nowhere; the
/// mount's own root then is the group.
fn group_limit(mount: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or("/"));
        let (root, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                (mount.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let path = Path::new(path.trim_start_matches('/'));
        let group_files = path.ancestors().map(|group| root.join(group).join(file));
        group_files.collect::<Vec<PathBuf>>()
    });
    limits.filter_map(|file| read(file).trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let mount = tempfile::tempdir().expect("tempdir");
        let put = |path: &str, text: &str| {
            let file = mount.path().join(path);
            fs::create_dir_all(file.parent().expect("parent")).expect("folder");
            fs::write(file, text).expect("file");
        };
        assert_eq!(group_limit(mount.path(), "0::/a/b\n"), None);
        put("a/memory.max", "2000000\n");
        put("a/b/memory.max", "max\n");
        assert_eq!(group_limit(mount.path(), "0::/a/b\n"), Some(2_000_000));
        put("memory.max", "1000000\n");
        assert_eq!(group_limit(mount.path(), "0::/of/the/host\n"), Some(1_000_000));
        put("memory/x/memory.limit_in_bytes", "500000\n");
        assert_eq!(group_limit(mount.path(), "5:cpu:/\n4:memory:/x\n"), Some(500_000));
    }

    #[test]
    fn reads_the_machine_s_memory() {
        assert_eq!(
            meminfo_total("MemTotal:       24683640 kB\nMemFree: 1 kB\n"),
            Some(25_276_047_360)
        );
        assert_eq!(meminfo_total(""), None);
    }
}
