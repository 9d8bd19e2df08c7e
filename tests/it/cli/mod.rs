//! The command line, run as a program against a small server that speaks the interface's shapes.

mod doctor;
mod groups;
mod nodes;
mod program;
mod publish;
mod server;
mod sockets;
mod tail;
mod topics;

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// No program and no condition takes longer, or the test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// The program without whatever the environment says.
fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    for (name, _) in std::env::vars() {
        if name.starts_with("POSTRIDER_") || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// What a program said, and how it ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("text")
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let err = String::from_utf8(output.stderr).expect("text");
        Self { code: output.status.code(), out: output.stdout, err }
    }
}

async fn ran(mut command: Command) -> Ran {
    let output = timeout(DEADLINE, command.output()).await.expect("ends in time");
    output.expect("starts").into()
}

/// Runs the program with `input` on its standard input.
async fn ran_with(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input).await.expect("is read");
    drop(stdin);
    let output = timeout(DEADLINE, child.wait_with_output()).await.expect("ends in time");
    output.expect("is waited for").into()
}

fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().expect("piped")).lines()
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    timeout(DEADLINE, lines.next_line()).await.expect("comes in time").expect("is read")
}

async fn ended(child: &mut Child) -> Option<i32> {
    timeout(DEADLINE, child.wait()).await.expect("ends in time").expect("is waited for").code()
}
