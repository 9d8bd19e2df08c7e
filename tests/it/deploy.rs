//! What lies in deploy/: PostgreSQL, three nodes and nginx, run from local processes by the
//! script and the nginx.conf that users get.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

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
        let pid = fs::read_to_string(self.dir.path().join(format!("{name}.pid"))).expect("a pid");
        let pid = pid.split(' ').next().expect("a pid").to_owned();
        assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill").success());
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
        self.script("down");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first of five ports in a row that nobody listens on: below those that the system gives to
/// others at any moment.
fn free_ports() -> u16 {
    let from = std::process::id() % 1_000;
    (from..from + 1_000)
        .map(|nth| 20_000 + (nth % 1_000) as u16 * 8)
        .find(|&first| {
            (first..first + 5).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        })
        .expect("five free ports in a row")
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
