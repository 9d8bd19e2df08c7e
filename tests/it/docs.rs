//! What the documents say about the code is what the code says.

use std::{fs, path::Path};

use postrider::api::error::{Effect, ErrorCode};

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
