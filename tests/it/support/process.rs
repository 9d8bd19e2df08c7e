//! The real program in a process of its own.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use super::PATIENCE;

/// `postrider serve` as a child. Dropped, it is killed.
pub struct Process {
    child: Child,
    url: String,
    log: Arc<Mutex<String>>,
}

/// The program with arguments and without what the environment would tell it.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    for name in ["DATABASE_URL", "POSTRIDER_URL", "POSTRIDER_CONFIG", "POSTRIDER_LOG"] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

impl Process {
    /// A node that listens; it may not be ready yet.
    pub fn serve(args: &[&str]) -> Self {
        let mut command = command(&["serve", "--listen", "127.0.0.1:0"]);
        command.args(args).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("a process");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let (told, heard) = std::sync::mpsc::channel();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                if let Some((_, url)) = line.split_once("listening on ") {
                    let _ = told.send(url.trim().to_owned());
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let Ok(url) = heard.recv_timeout(PATIENCE * 2) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the node does not listen: {}", log.lock().expect("no panic"));
        };
        Self { child, url, log }
    }

    /// Runs the program to its end.
    pub fn run(args: &[&str]) -> Output {
        command(args).output().expect("a process")
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("gone");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
