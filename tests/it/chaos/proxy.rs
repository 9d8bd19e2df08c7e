//! A slow way to the database, so that more happens between two steps of a request.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use rand::Rng;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    task::JoinSet,
    time::sleep,
};

use super::stream;

const BEGIN: &[u8] = b"BEGIN";
/// How much longer it takes to begin a transaction.
const BEGIN_SLOWER: u32 = 20;

/// Listens on loopback and leads to a socket. Dropped, it ends with all its connections.
pub struct SlowProxy {
    /// Where it listens.
    pub address: SocketAddr,
    _task: JoinSet<()>,
}

impl SlowProxy {
    /// Whatever comes from `socket` or goes to it takes up to `delay` longer.
    pub async fn start(seed: u64, socket: PathBuf, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut random = stream(seed, "proxy");
            let mut open = JoinSet::new();
            loop {
                let Ok((near, _)) = listener.accept().await else { return };
                let Ok(far) = UnixStream::connect(&socket).await else { continue };
                while open.try_join_next().is_some() {}
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                let (there, back) = (random.random(), random.random());
                open.spawn(async move {
                    tokio::select! {
                        () = carry(near_in, far_out, there, delay) => {}
                        () = carry(far_in, near_out, back, delay) => {}
                    }
                });
            }
        });
        Self { address, _task: task }
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seed: u64,
    delay: Duration,
) {
    let mut random = stream(seed, "delay");
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut bytes).await {
        // Clients that vanish in the middle of a BEGIN are the ones that did harm.
        let begins = bytes[..count].windows(BEGIN.len()).any(|bytes| bytes == BEGIN);
        let delay = if begins { delay * BEGIN_SLOWER } else { delay };
        sleep(delay.mul_f64(random.random())).await;
        if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
