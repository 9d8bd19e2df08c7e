//! The house as ARCHITECTURE.md describes it, held up by tests: who imports whom, where SQL,
//! time and tasks are made, how long files and functions are, what lies at the top.

mod rules;
mod source;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rules::violations;
use source::Source;

/// What may lie at the top of the repository.
const TOP: [&str; 21] = [
    ".ci",
    ".dockerignore",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "bench",
    "clippy.toml",
    "console",
    "deploy",
    "docker-compose.yml",
    "docs",
    "migrations",
    "openapi",
    "rustfmt.toml",
];
const TOP_TOO: [&str; 3] = ["sdk-ts", "src", "tests"];

/// Checksums of the migrations that have landed, a line each: sum, space, file.
const SUMS: &str = "tests/it/migrations.sum";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the folder `under` whose text the rules read, from the root.
fn sources(under: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(under)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("a readable folder").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if is_read(&path) {
                found.push(read(path));
            }
        }
    }
    found
}

/// Written by pg_dump, in its own lines.
const GENERATED: &str = "tests/it/store/schema.sql";

fn is_read(path: &Path) -> bool {
    if path.ends_with(GENERATED) {
        return false;
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    matches!(ending, Some("rs" | "sql" | "sh" | "conf" | "toml"))
}

fn read(path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).expect("a text");
    let inside = path.strip_prefix(root()).expect("a file of the repository");
    Source::new(&inside.to_string_lossy(), &text)
}

#[test]
fn architecture_rules_hold() {
    let folders = ["src", "tests", "bench/src", "migrations", "deploy", ".ci"];
    let all: Vec<Source> = folders.iter().flat_map(|folder| sources(folder)).collect();
    assert!(all.len() > 20, "only {} files were found: is this the repository?", all.len());
    let wrong: Vec<String> = all.iter().flat_map(violations).collect();
    assert!(wrong.is_empty(), "{} broken rules:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn architecture_top_level_is_as_agreed() {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        return; // An unpacked archive has no index to ask.
    };
    let listed = String::from_utf8(listed.stdout).expect("names in UTF-8");
    let tops = listed.lines().filter_map(|path| path.split('/').next());
    let mut strange: Vec<&str> =
        tops.filter(|top| !TOP.contains(top) && !TOP_TOO.contains(top)).collect();
    strange.dedup();
    assert!(strange.is_empty(), "top level: {strange:?} may not lie there");
}

/// A migration that ran somewhere is never changed: what it should have done is a new one.
#[test]
fn architecture_migrations_are_fresh_and_unchanged() {
    let file = root().join(SUMS);
    let mut known: BTreeMap<String, String> = fs::read_to_string(&file)
        .expect("the sums of migrations")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
        .collect();
    for name in known.keys() {
        assert!(root().join(name).exists(), "{name} has landed: it may not go");
    }
    for migration in migrations() {
        let sum = format!("{:016x}", fnv1a(migration.text.as_bytes()));
        let regenerate = std::env::var_os("POSTRIDER_REGENERATE").is_some();
        match known.get(&migration.path) {
            Some(landed) => {
                assert_eq!(landed, &sum, "{} has landed: write a new one", migration.path);
            }
            None if regenerate => drop(known.insert(migration.path.clone(), sum)),
            None => panic!("{} is not in {SUMS}: run `make generate`", migration.path),
        }
    }
    let lines = known.iter().map(|(name, sum)| format!("{sum} {name}\n"));
    let text: String = lines.collect();
    if fs::read_to_string(&file).expect("the sums of migrations") != text {
        fs::write(&file, text).expect("a writable folder");
    }
}

/// The numbered ones; the functions beside them are replaced whole and may change.
fn migrations() -> Vec<Source> {
    let in_folder = |source: &Source| source.path.matches('/').count() == 1;
    let is_sql = |source: &Source| source.path.ends_with(".sql");
    let all = sources("migrations").into_iter();
    all.filter(|source| in_folder(source) && is_sql(source)).collect()
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The wrong that `text` at `path` is found guilty of, all of them in one text.
fn wrong(path: &str, text: &str) -> String {
    violations(&Source::new(path, text)).join("\n")
}

#[test]
fn architecture_catches_each_planted_violation() {
    let long = format!("fn long() {{\n{}}}\n", "    f();\n".repeat(69));
    let many = "// a line\n".repeat(401);
    let wide = format!("// {}\n", "x".repeat(98));
    let left = ["// TO", "DO: later\n"].concat();
    let planted: [(&str, &str, &str); 23] = [
        ("src/store/a.rs", "use crate::log::Tail;", "`store` may not import `log`"),
        ("src/publish/a.rs", "use crate::{model::Name, commit::x};", "may not import `commit`"),
        ("src/api/a.rs", "fn f() { crate::cli::run() }", "`api` may not import `cli`"),
        ("src/log/a.rs", "use super::super::catalog::x;", "`log` may not import `catalog`"),
        ("src/log/mod.rs", "use super::catalog::x;", "`log` may not import `catalog`"),
        ("src/log/mod.rs", "mod t { use super::super::auth::x; }", "may not import `auth`"),
        ("src/model/a.rs", "use crate::record::x;", "`model` may not import `record`"),
        ("src/model/a.rs", "use crate::config::x;", "`model` may not import `config`"),
        ("src/config/a.rs", "use crate::store::x;", "`config` may not import `store`"),
        ("src/new/a.rs", "use crate::model::x;", "`new` may not import `model`"),
        ("src/log/a.rs", "use crate::anything::x;", "may not import `anything`"),
        ("src/app.rs", "use postrider::x;\nuse crate::main::y;", "`app` may not import `main`"),
        ("src/log/a.rs", "use sqlx::PgPool;", "src/log/a.rs:1: sql"),
        ("src/log/a.rs", "fn f() { tokio::spawn(x); }", "belongs in src/lifecycle.rs"),
        ("src/log/a.rs", "use tokio::{task}; fn f() { task::spawn(x) }", "src/lifecycle.rs"),
        ("src/log/a.rs", "fn f() { SystemTime::now() }", "belongs in src/model/clock.rs"),
        ("src/log/a.rs", &long, "`long` has 71 lines"),
        ("src/log/a.rs", &many, "a file of 401 lines"),
        ("src/log/a.rs", &wide, "101 columns"),
        ("src/log/utils.rs", "", "`utils` says nothing"),
        ("tests/it/common/mod.rs", "", "`common` says nothing"),
        ("deploy/x.sh", &left, "deploy/x.sh:1: leftover"),
        ("src/log/a.rs", "fn f() { x.unwrap(); }", "src/log/a.rs:1: unwrap"),
    ];
    for (path, text, expected) in planted {
        let found = wrong(path, text);
        assert!(found.contains(expected), "{path} with {text:.60}: {found:?}, not {expected:?}");
    }
}

#[test]
fn architecture_lets_the_permitted_pass() {
    let longest = format!("fn f() {{\n{}}}\n", "    f();\n".repeat(68));
    let permitted: [(&str, &str); 12] = [
        ("src/api/a.rs", "use crate::{api::x, publish::{commit, y}, model::z, telemetry};"),
        ("src/main.rs", "use postrider::{app, cli};"),
        ("src/log/a.rs", "use super::catalog::x; mod tests { use super::super::auth; }"),
        ("src/lifecycle.rs", "mod tests { use super::*; }\nfn f() { tokio::spawn(x); }"),
        ("src/store/mod.rs", "use sqlx::PgPool;"),
        ("src/log/a.rs", "// sqlx crate::api::x\n/* a /* tokio::spawn */ b */ fn f() {}"),
        ("src/log/a.rs", "const S: &str = r#\"crate::api::x \"sqlx\" \"#; const C: char = '\"';"),
        ("src/log/a.rs", "#[cfg(test)]\nmod tests { fn f() { x.unwrap(); } }"),
        ("src/log/tests.rs", "fn f() { x.unwrap(); }"),
        ("src/model/clock.rs", "fn f<'a>(x: &'a str) { SystemTime::now() }"),
        ("src/log/a.rs", &longest),
        ("tests/it/a.rs", "use sqlx::PgPool; fn f() { tokio::spawn(x).unwrap(); }"),
    ];
    for (path, text) in permitted {
        assert_eq!(wrong(path, text), "", "{path} with {text:.60}");
    }
}
