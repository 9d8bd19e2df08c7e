//! The rules, one function each: what a file does wrong, a line a wrong.

use super::source::{Source, is_word};

pub const FILE_LINES_MAX: usize = 400;
pub const FUNCTION_LINES_MAX: usize = 70;
pub const COLUMNS_MAX: usize = 100;

/// The modules from the one that may import everything to the one that may import nothing: each
/// may import those of later rows, never its neighbours.
const LAYERS: [&[&str]; 9] = [
    &["main"],
    &["app"],
    &["api", "maintenance", "cli"],
    &["publish", "deliver", "commit"],
    &["catalog", "auth"],
    &["log"],
    &["store"],
    &["record"],
    &["model"],
];
/// Imported by anything but `model`; they import `model` and each other.
const LEAVES: [&str; 4] = ["config", "telemetry", "lifecycle", "postgres"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "shared"];

/// What may be called in one place only.
const SEAMS: [(&[&str], &str); 5] = [
    (&["tokio", "::", "spawn"], "src/lifecycle.rs"),
    (&["task", "::", "spawn"], "src/lifecycle.rs"),
    (&["SystemTime", "::", "now"], "src/model/clock.rs"),
    (&["OffsetDateTime", "::", "now_utc"], "src/model/clock.rs"),
    (&["OffsetDateTime", "::", "now_local"], "src/model/clock.rs"),
];

/// Everything that is wrong with `source`, each with file, line and rule.
pub fn violations(source: &Source) -> Vec<String> {
    let rules = [direction, sql, seams, sizes, names, leftovers, unwraps];
    let found = rules.iter().flat_map(|rule| rule(source));
    found.map(|(line, what)| format!("{}:{line}: {what}", source.path)).collect()
}

type Wrongs = Vec<(usize, String)>;

fn direction(source: &Source) -> Wrongs {
    let Some(from) = module_of(&source.path) else { return Vec::new() };
    let targets = imports(source);
    let wrong = targets.into_iter().filter(|(_, to)| !may_import(&from, to));
    let say = |to: String| format!("direction: `{from}` may not import `{to}`");
    wrong.map(|(line, to)| (line, say(to))).collect()
}

/// The module of the crate that the file belongs to; `None` where no direction is asked for.
fn module_of(path: &str) -> Option<String> {
    let inside = path.strip_prefix("src/")?;
    let name = inside.split('/').next()?.trim_end_matches(".rs");
    (name != "lib").then(|| name.to_owned())
}

fn may_import(from: &str, to: &str) -> bool {
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let is_leaf = |name: &str| LEAVES.contains(&name);
    if from == to {
        return true;
    }
    match (layer(from), layer(to)) {
        (Some(_), None) => is_leaf(to) && from != "model",
        (None, _) if is_leaf(from) => is_leaf(to) || to == "model",
        (Some(from), Some(to)) => from < to,
        (None, _) => false,
    }
}

/// What the file names of the crate's own modules, by `crate::` or by climbing with `super::`.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let inline = source.inline_depths();
    let own = file_depth(&source.path);
    let mut found = Vec::new();
    let mut at = 0;
    while at < source.tokens.len() {
        let start = at;
        at += 1;
        let is_root = match source.tokens[start].text.as_str() {
            "crate" => true,
            "postrider" => source.path == "src/main.rs",
            "super" => {
                while source.reads(at, &["::", "super"]) {
                    at += 2;
                }
                (at - start).div_ceil(2) == own + inline[start]
            }
            _ => false,
        };
        if is_root && source.word_is(at, "::") {
            found.extend(heads(source, at + 1));
        }
    }
    found
}

/// How many `super` lead from the file to the root of the crate.
fn file_depth(path: &str) -> usize {
    let inside = path.trim_start_matches("src/");
    let parts = inside.split('/').count();
    if inside.ends_with("mod.rs") { parts - 1 } else { parts }
}

/// The first words of the path, or of each path of the group, that begins at `at`.
fn heads(source: &Source, at: usize) -> Vec<(usize, String)> {
    let head = |at: usize| {
        let token = source.tokens.get(at).filter(|token| is_word(&token.text))?;
        Some((token.line, token.text.clone()))
    };
    if !source.word_is(at, "{") {
        return head(at).into_iter().collect();
    }
    let end = source.closing(at);
    let mut depth = 0;
    let mut found = Vec::new();
    for inside in at..end {
        match source.tokens[inside].text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 1 && matches!(source.tokens[inside].text.as_str(), "{" | ",") {
            found.extend(head(inside + 1));
        }
    }
    found
}

fn sql(source: &Source) -> Wrongs {
    if !source.path.starts_with("src/") || source.path.starts_with("src/store/") {
        return Vec::new();
    }
    let lines = source.lines_with(&["sqlx"]);
    lines.into_iter().map(|line| (line, "sql: `sqlx` belongs in src/store".to_owned())).collect()
}

fn seams(source: &Source) -> Wrongs {
    let mut found = Vec::new();
    for (words, home) in SEAMS {
        if !source.path.starts_with("src/") || source.path == home {
            continue;
        }
        let what = format!("seam: `{}` belongs in {home}", words.concat());
        found.extend(source.lines_with(words).into_iter().map(|line| (line, what.clone())));
    }
    found
}

fn sizes(source: &Source) -> Wrongs {
    if !matches!(source.path.rsplit('.').next(), Some("rs" | "sql" | "sh")) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push((lines, format!("size: a file of {lines} lines, at most {FILE_LINES_MAX}")));
    }
    for function in source.functions() {
        let (name, lines) = (function.name, function.lines);
        if lines > FUNCTION_LINES_MAX {
            let what = format!("size: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}");
            found.push((function.line, what));
        }
    }
    for (index, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            let what = format!("size: {columns} columns, at most {COLUMNS_MAX}");
            found.push((index + 1, what));
        }
    }
    found
}

fn names(source: &Source) -> Wrongs {
    let parts = source.path.trim_end_matches(".rs").split('/');
    let empty = parts.filter(|part| source.path.ends_with(".rs") && EMPTY_NAMES.contains(part));
    empty.map(|part| (1, format!("name: `{part}` says nothing about what is inside"))).collect()
}

fn leftovers(source: &Source) -> Wrongs {
    // Put together here, or this file would break its own rule.
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    let mut found = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for word in words.iter().filter(|word| line.contains(word.as_str())) {
            found.push((index + 1, format!("leftover: {word}")));
        }
    }
    found
}

fn unwraps(source: &Source) -> Wrongs {
    let is_test = source.path.ends_with("/tests.rs") || source.path.contains("/tests/");
    if !source.path.starts_with("src/") || is_test {
        return Vec::new();
    }
    let marks = source.test_only();
    let words = [".", "unwrap", "(", ")"];
    let calls = (0..marks.len()).filter(|&at| !marks[at] && source.reads(at, &words));
    let what = "unwrap: a running path says why it cannot fail, with `expect`";
    calls.map(|at| (source.tokens[at].line, what.to_owned())).collect()
}
