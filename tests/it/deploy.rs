//! What lies in deploy/: PostgreSQL, three nodes and nginx, run from local processes by the
//! script and the nginx.conf that users get.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use postrider::lifecycle::Lifecycle;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::block_in_place;

use crate::support::{Answer, Client, eventually};

struct Topology {
    dir: TempDir,
    port: u16,
}

impl Topology {
    fn up() -> Self {
        let topology = Self { dir: tempfile::tempdir().expect("a folder"), port: free_ports() };
        let up = topology.script("up");
        assert!(up.status.success(), "{}{}", text(&up.stderr), topology.logs());
        topology
    }

    fn script(&self, command: &str) -> Output {
        Command::new(root().join("deploy/topology.sh"))
            .arg(command)
            .arg("--dir")
            .arg(self.dir.path())
            .args(["--port", &self.port.to_string(), "--bin", env!("CARGO_BIN_EXE_postrider")])
            .output()
            .expect("a script that runs")
    }

    /// Runs a line of a document with the port of this topology.
    fn shell(&self, line: &str) -> String {
        let line = line.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", self.port));
        let line = line.replacen("curl ", "curl --silent --show-error --fail-with-body ", 1);
        let output = Command::new("bash").args(["-c", &line]).output().expect("a shell");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{line}: {stdout}{stderr}{}", self.logs());
        stdout
    }

    fn kill(&self, name: &str) {
        self.signal(name, "-9");
    }

    fn signal(&self, name: &str, signal: &str) {
        let pid = fs::read_to_string(self.dir.path().join(format!("{name}.pid"))).expect("a pid");
        let pid = pid.split(' ').next().expect("a pid").to_owned();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    fn client(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.port))
    }

    fn is_down(&self, name: &str) -> bool {
        text(&self.script("status").stdout).lines().any(|line| line == format!("{name} down"))
    }

    fn logs(&self) -> String {
        let entries = fs::read_dir(self.dir.path()).expect("a folder").flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
        logs.map(|log| format!("{:?}:\n{}", log.path(), fs::read_to_string(log.path()).unwrap()))
            .collect()
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        self.script("down");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first of six ports in a row that nobody listens on: below those that the system gives to
/// others at any moment.
fn free_ports() -> u16 {
    let from = std::process::id() % 1_000;
    (from..from + 1_000)
        .map(|nth| 20_000 + (nth % 1_000) as u16 * 8)
        .find(|&first| {
            (first..first + 6).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        })
        .expect("six free ports in a row")
}

/// The README's lines that speak to a node.
fn demo() -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let part = readme.split("<!-- demo -->").nth(1).expect("a demo");
    let part = part.split("<!-- end -->").next().expect("an end");
    part.lines().filter(|line| line.starts_with("curl ")).map(str::to_owned).collect()
}

#[test]
fn deploy_topology_runs_the_readmes_lines_and_outlives_a_node() {
    let topology = Topology::up();
    let demo = demo();
    assert_eq!(demo.len(), 3);
    let answers: Vec<String> = demo.iter().map(|line| topology.shell(line)).collect();
    assert_eq!(answers[1], r#"{"results":[{"partition":0,"offset":0}],"durability":"local"}"#);
    assert!(answers[2].contains(r#""offset":0"#) && answers[2].contains(r#""hello""#));

    topology.kill("node1");
    for offset in 1..=6 {
        let answer = topology.shell(&demo[1]);
        assert!(answer.contains(&format!(r#""offset":{offset}"#)), "{answer}");
    }
    let status = text(&topology.script("status").stdout);
    let down: Vec<&str> = status.lines().filter(|line| line.ends_with(" down")).collect();
    assert_eq!(down, ["node1 down"], "{status}");

    assert!(topology.script("up").status.success());
    assert!(topology.shell(&demo[2]).contains(r#""next_offset":7"#));
    assert!(topology.script("down").status.success());
    let status = text(&topology.script("status").stdout);
    assert!(status.lines().all(|line| line.ends_with(" down")), "{status}");
}

/// A call as clients make it: what says that nothing happened and that it may be sent again is
/// sent again, a few times, each time later: a node that starts says 503 until it is ready.
async fn retried(client: &Client, method: Method, path: &str, body: &serde_json::Value) -> Answer {
    let mut last = None;
    for nth in 0..6 {
        let request = client.request(method.clone(), path).json(body);
        last = client.try_send(request).await;
        if let Some(answer) =
            last.take_if(|answer| answer.status < 400 || answer.value()["retryable"] != true)
        {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50 << nth)).await;
    }
    panic!("{method} {path} is not answered: {last:?}");
}

/// Nodes leave one after the other while clients go on; nobody is told of a failure.
#[tokio::test(flavor = "multi_thread")]
async fn deploy_nodes_leave_with_no_failed_call() {
    let topology = block_in_place(Topology::up);
    let client = topology.client();
    let made = json!({"partitions": 1, "durability": "replicated"});
    assert_eq!(client.json(Method::PUT, "/v1/topics/orders", &made).await.status, 201);
    let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..6)
        .map(|n| {
            let (client, stop, published) = (client.clone(), stop.clone(), published.clone());
            Lifecycle::new().spawn(async move {
                let mut offset = 0;
                while !stop.load(Ordering::Relaxed) {
                    let body = json!({"messages": [{"value": n}]});
                    let path = "/v1/topics/orders/messages";
                    let answer = retried(&client, Method::POST, path, &body).await.ok();
                    assert_eq!(answer["durability"], "replicated", "{answer}");
                    published.fetch_add(1, Ordering::Relaxed);
                    let path = "/v1/topics/orders/partitions/0/messages";
                    let path = format!("{path}?from={offset}&limit=100&wait=100ms");
                    let page = retried(&client, Method::GET, &path, &json!({})).await.ok();
                    assert!(page["messages"][0]["offset"] == offset, "{page}");
                    offset = page["next_offset"].as_i64().expect("an offset");
                }
            })
        })
        .collect();
    let goes_on = async || {
        let before = published.load(Ordering::Relaxed);
        eventually("publishes go on", async || {
            assert!(clients.iter().all(|client| !client.is_finished()), "a call failed");
            (published.load(Ordering::Relaxed) >= before + 100).then_some(())
        })
        .await;
    };
    for node in ["node1", "node2", "node3"] {
        goes_on().await;
        topology.signal(node, "-TERM");
        eventually("the node is gone", async || {
            block_in_place(|| topology.is_down(node)).then_some(())
        })
        .await;
        goes_on().await;
        assert!(block_in_place(|| topology.script("up")).status.success());
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no call failed");
    }
    let end = client.watermarks("orders", 0).await.1;
    assert_eq!(end, published.load(Ordering::Relaxed) as i64, "one message for each publish");
}

/// The primary dies, the script makes its standby the primary, and what was acknowledged is there.
#[tokio::test(flavor = "multi_thread")]
async fn deploy_topology_promotes_its_standby() {
    let topology = block_in_place(Topology::up);
    let client = topology.client();
    let made = json!({"partitions": 1, "durability": "replicated"});
    assert_eq!(client.json(Method::PUT, "/v1/topics/orders", &made).await.status, 201);
    let body = json!({"messages": [{"value": 1}]});
    let path = "/v1/topics/orders/messages";
    client.json(Method::POST, path, &body).await.ok();
    topology.kill("postgres1");
    let promoted = block_in_place(|| topology.script("promote"));
    assert!(promoted.status.success(), "{}", text(&promoted.stderr));
    let answer = eventually("a publish is acknowledged", async || {
        Some(client.json(Method::POST, path, &body).await).filter(|answer| answer.status == 200)
    })
    .await;
    assert_eq!(answer.value()["durability"], "replicated");
    // One may have been written that nobody was told of.
    let messages = client.read("orders", 0, "from=0").await.ok();
    assert!(messages["messages"].as_array().expect("messages").len() >= 2, "{messages}");
    // It stays so over a restart.
    assert!(block_in_place(|| topology.script("down")).status.success());
    assert!(block_in_place(|| topology.script("up")).status.success());
    let end = topology.client().watermarks("orders", 0).await.1;
    assert!(end >= 2, "{end}");
}

/// docker-compose.yml's PostgreSQL gets what the embedded one gets.
#[test]
fn deploy_postgresql_conf_is_the_embedded_servers() {
    let conf = fs::read_to_string(root().join("deploy/postgresql.conf")).expect("the settings");
    let tune = fs::read_to_string(root().join("src/postgres/tune.rs")).expect("the profile");
    // These follow from the machine and from the server's build.
    let own = ["shared_buffers", "wal_compression"];
    let settings = conf.lines().filter(|line| line.contains(" = "));
    let settings: Vec<&str> =
        settings.filter(|line| !own.iter().any(|name| line.starts_with(name))).collect();
    assert!(settings.len() > 8, "{settings:?}");
    for setting in settings {
        assert!(tune.lines().any(|line| line == setting), "src/postgres/tune.rs lacks {setting}");
    }
}
