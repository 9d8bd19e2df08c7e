//! The floor over HTTP: an axum server on Postrider's own accept loop that parses the same body
//! and answers the same shape as a publish, without doing anything; and that serves pages of a
//! backlog ready-made. It runs as a process of its own, `bench echo`, as the node does.

use std::{
    borrow::Cow,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use axum::{
    Router,
    body::Body,
    extract::{Path as UrlPath, State},
    http::{HeaderValue, Response, StatusCode, header},
    routing::{get, post},
};
use bytes::Bytes;
use clap::Parser;
use postrider::{
    api::accept::{AcceptSettings, serve},
    lifecycle::Lifecycle,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use super::{free_port, until_ready};
use crate::process::Process;

/// An echo that runs as a child process.
pub struct Echo {
    process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Echo {
    /// Starts one, serving `pages` besides, with its files in `folder`.
    ///
    /// # Errors
    /// When it does not answer within a few seconds.
    pub async fn start(folder: &Path, pages: &[Bytes]) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["echo", "--listen", &address.to_string()]);
        if !pages.is_empty() {
            let file = folder.join("pages");
            write_pages(&file, pages)?;
            command.arg("--pages").arg(file);
        }
        let log = folder.join(format!("echo-{}.log", address.port()));
        let mut process = Process::start(command, &log)?;
        until_ready(&mut process, address, "/ready").await.context("the echo")?;
        Ok(Self { process, address })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// The arguments of `bench echo`.
#[derive(Parser)]
pub struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    pages: Option<PathBuf>,
}

/// Runs the echo in this process, until its parent has ended.
///
/// # Errors
/// When it cannot listen, or cannot read its pages.
pub fn run(arguments: Arguments) -> Result<()> {
    let pages = arguments.pages.as_deref().map(read_pages).transpose()?.unwrap_or_default();
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(arguments.listen).await?;
        let settings = AcceptSettings::default();
        serve(listener, router(pages), Lifecycle::new(), settings).await;
        Ok(())
    })
}

#[derive(Default)]
struct Shared {
    offset: AtomicU64,
    pages: Vec<Bytes>,
}

fn router(pages: Vec<Bytes>) -> Router {
    Router::new()
        .route("/v1/topics/{topic}/messages", post(publish))
        .route("/pages/{page}", get(page))
        .route("/ready", get(async || StatusCode::OK))
        .with_state(Arc::new(Shared { pages, ..Shared::default() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    partition: Option<u32>,
}

#[derive(Serialize)]
struct Published {
    results: Vec<Position>,
    durability: &'static str,
}

#[derive(Serialize)]
struct Position {
    partition: u32,
    offset: u64,
}

async fn publish(
    State(shared): State<Arc<Shared>>,
    UrlPath(topic): UrlPath<String>,
    body: Bytes,
) -> Response<Body> {
    let Ok(publish) = serde_json::from_slice::<Publish<'_>>(&body) else {
        return plain(StatusCode::BAD_REQUEST);
    };
    let results = publish
        .messages
        .iter()
        .map(|message| {
            let key = message.key.as_ref().map_or(topic.len(), |key| key.len());
            let value = message.value.map_or(0, |value| value.get().len());
            let partition = message.partition.unwrap_or(((key + value) % 16) as u32);
            Position { partition, offset: shared.offset.fetch_add(1, Ordering::Relaxed) }
        })
        .collect();
    match serde_json::to_vec(&Published { results, durability: "local" }) {
        Ok(body) => json(body.into()),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

async fn page(State(shared): State<Arc<Shared>>, UrlPath(page): UrlPath<usize>) -> Response<Body> {
    match shared.pages.get(page) {
        Some(page) => json(page.clone()),
        None => plain(StatusCode::NOT_FOUND),
    }
}

fn json(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn write_pages(file: &Path, pages: &[Bytes]) -> Result<()> {
    let mut output = std::io::BufWriter::new(fs::File::create(file)?);
    for page in pages {
        output.write_all(&u64::try_from(page.len())?.to_le_bytes())?;
        output.write_all(page)?;
    }
    Ok(output.flush()?)
}

fn read_pages(file: &Path) -> Result<Vec<Bytes>> {
    let mut rest = Bytes::from(fs::read(file)?);
    let mut pages = Vec::new();
    while !rest.is_empty() {
        let length = rest.split_to_checked(8)?;
        let length = u64::from_le_bytes(length[..].try_into()?);
        pages.push(rest.split_to_checked(usize::try_from(length)?)?);
    }
    Ok(pages)
}

trait SplitChecked {
    fn split_to_checked(&mut self, at: usize) -> Result<Bytes>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, at: usize) -> Result<Bytes> {
        if self.len() < at {
            return Err(anyhow!("the file of pages is cut short"));
        }
        Ok(self.split_to(at))
    }
}
