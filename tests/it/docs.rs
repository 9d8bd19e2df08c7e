//! What the documents say about the code is what the code says.

use std::{fs, path::Path};

use postrider::{
    api::{
        error::{Effect, ErrorCode},
        ws::Close,
    },
    model::limits,
};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `docs/errors.md` has one row for each code, in the same order, with the same facts.
#[test]
fn docs_errors_table_is_the_code() {
    let text = read("docs/errors.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Vec<&str>> =
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let facts: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().take(4).map(|&cell| cell.to_owned()).collect()).collect();
    let expected: Vec<Vec<String>> = ErrorCode::ALL.into_iter().map(facts_of).collect();
    assert_eq!(facts, expected);
    for row in rows {
        assert!(row.len() == 6 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

fn facts_of(code: ErrorCode) -> Vec<String> {
    let effect = match code.effect() {
        Effect::None => "none",
        Effect::Unknown => "unknown",
    };
    vec![
        format!("`{}`", code.as_str()),
        code.status().as_u16().to_string(),
        if code.is_retryable() { "yes" } else { "no" }.to_owned(),
        effect.to_owned(),
    ]
}

/// ARCHITECTURE.md maps every entry of `src`, in the order of `ls`.
#[test]
fn docs_map_of_the_code_is_ls_src() {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("src");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut expected: Vec<String> =
        entries.map(|entry| name(entry.expect("a readable folder"))).collect();
    expected.sort();
    let text = read("ARCHITECTURE.md");
    let map = text.split("## ").find(|part| part.starts_with("The map")).expect("a map");
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mapped: Vec<&str> = rows.map(|(name, _)| name).collect();
    assert_eq!(mapped, expected);
}

/// The README's table of limits is `model::limits`.
#[test]
fn docs_limits_are_the_code() {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    let mib = |bytes: u32| bytes as usize / MIB;
    let (default, most) = (limits::MESSAGE_BYTES_DEFAULT, limits::MESSAGE_BYTES_MAX);
    let (head, fields) = (limits::HEAD_BYTES_MAX / KIB, limits::HEAD_FIELDS_MAX);
    let rows = [
        ("messages in one request", thousands(limits::BATCH_MESSAGES_MAX)),
        ("one request body, after decoding", format!("{} MiB", limits::BODY_BYTES_MAX / MIB)),
        ("one message", format!("{} MiB, by setting {} MiB", mib(default), mib(most))),
        ("headers of one message", format!("{} KiB", limits::MESSAGE_HEADERS_BYTES_MAX / KIB)),
        ("a key", format!("{} KiB", limits::KEY_BYTES_MAX / KIB)),
        ("nesting of a JSON value", limits::JSON_DEPTH_MAX.to_string()),
        ("partitions of a topic", thousands(limits::PARTITIONS_MAX as usize)),
        ("a name", format!("{} characters of `[A-Za-z0-9._~-]`", limits::NAME_CHARS_MAX)),
        ("an `Idempotency-Key`", format!("{} characters", limits::IDEMPOTENCY_KEY_CHARS_MAX)),
        ("sequences of a producer that are answered again", limits::PRODUCER_WINDOW.to_string()),
        ("how long what was done once is answered again", hours(limits::CLAIM_KEPT)),
        ("messages in one read", thousands(limits::READ_MESSAGES_MAX as usize)),
        ("bytes of records in one read", format!("{} MiB", limits::READ_BYTES_MAX / MIB as i64)),
        ("a long poll", format!("{} s", limits::READ_WAIT_MAX.as_secs())),
        ("a request target", format!("{} KiB", limits::URI_BYTES_MAX / KIB)),
        ("a request head", format!("{head} KiB, {fields} fields")),
        ("an idle connection", format!("{} s", limits::IDLE_TIMEOUT.as_secs())),
        ("connections of a node", thousands(limits::CONNECTIONS_MAX)),
        (
            "sockets of an address, with `--trusted-proxies`",
            thousands(limits::SOCKETS_PER_ADDRESS_MAX as usize),
        ),
    ];
    let text = read("README.md");
    for (what, most) in rows {
        let row = format!("| {what} | {most} |");
        assert!(text.contains(&row), "README.md lacks the row {row}");
    }
}

fn hours(time: std::time::Duration) -> String {
    format!("{} h", time.as_secs() / 3_600)
}

fn thousands(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}

/// What people write against is in every checkout: a link of a document leads to a file.
#[test]
fn docs_links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/running.md"];
    let mut broken = Vec::new();
    for document in documents {
        let text = read(document);
        let folder = root.join(document).parent().expect("a folder").to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_file = !link.contains("://") && !link.starts_with('#');
            if is_file && !folder.join(link).exists() {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

/// The table of close codes in `docs/websocket.md` is the code's.
#[test]
fn docs_close_codes_are_the_code() {
    let text = read("docs/websocket.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let told: Vec<(u16, bool)> = rows
        .filter_map(|(code, rest)| Some((code.parse().ok()?, rest.ends_with("| yes |"))))
        .collect();
    let expected =
        Close::ALL.map(|close| (close.code(), (4_000..4_100).contains(&close.code()))).to_vec();
    assert_eq!(told, expected);
}
