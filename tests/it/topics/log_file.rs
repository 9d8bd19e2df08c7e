//! A real log file, published by the command line and read back.

use std::{collections::BTreeMap, path::Path};

use super::one;
use crate::support::Process;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_file_published_by_the_command_line_is_read_back_whole_and_in_order() {
    let (_database, node, client) = one().await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/apache_access.log");
    let text = std::fs::read_to_string(&file).expect("the log file");
    let lines: Vec<&str> = text.lines().collect();
    let url = format!("http://{}", node.address());
    let file = file.to_str().expect("UTF-8").to_owned();
    let run = async |args: &[&str]| {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let output = tokio::task::spawn_blocking(move || {
            Process::run(&args.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let output = output.await.expect("no panic");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    run(&["topic", "create", "access", "--partitions", "8", "--url", &url]).await;
    let key = r"^(\S+)";
    run(&["publish", "access", "--key-regex", key, "--file", &file, "--url", &url]).await;

    let mut expected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &lines {
        expected.entry(line.split(' ').next().expect("an address")).or_default().push(line);
    }
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut used = 0;
    for partition in 0..8 {
        let messages = client.read_all("access", partition).await;
        used += u32::from(!messages.is_empty());
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for message in messages {
            let text = |field: &str| message[field].as_str().expect("text").to_owned();
            keys.entry(text("key")).or_default().push(text("value_text"));
        }
        for (key, lines) in keys {
            assert!(found.insert(key.clone(), lines).is_none(), "{key} is in two partitions");
        }
    }
    assert_eq!(used, 8);
    assert_eq!(found.len(), expected.len());
    for (key, lines) in &expected {
        assert_eq!(found[*key], *lines, "the lines of {key}");
    }

    let args = ["tail", "access", "--from", "earliest", "--no-follow", "-o", "value"];
    let tailed = run(&[&args[..], &["--url", &url]].concat()).await;
    let mut tailed: Vec<&str> = tailed.lines().collect();
    let mut sorted = lines.clone();
    tailed.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(tailed, sorted);
    node.stop().await.expect("stops");
}
