//! The servers that Postrider is measured beside, and Postrider itself.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::time::{sleep, timeout};

use crate::{
    load::{client::Connection, payload},
    process::Process,
};

pub mod echo;
pub mod node;
pub mod streams;

/// How long a server may take until it is ready.
const READY: Duration = Duration::from_secs(60);

/// A port of loopback that nobody listens on.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Asks for `path` until it is answered with success: how long that took.
///
/// # Errors
/// When the process ends first, or takes longer than a minute.
pub async fn until_ready(
    process: &mut Process,
    address: SocketAddr,
    path: &str,
) -> Result<Duration> {
    let began = Instant::now();
    let request = payload::request(address, "GET", path, "");
    while began.elapsed() < READY {
        process.check()?;
        let answer = timeout(Duration::from_secs(5), async {
            let mut connection = Connection::open(address).await?;
            connection.exchange(&request).await.map(|answer| answer.is_success())
        });
        if matches!(answer.await, Ok(Ok(true))) {
            return Ok(began.elapsed());
        }
        sleep(Duration::from_millis(5)).await;
    }
    bail!("not ready after {READY:?}: {}", process.last_output())
}
