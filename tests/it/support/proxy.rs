//! A way to PostgreSQL that a test may hold, cut and heal: a node whose URL leads through it is
//! partitioned from the database while its clients reach it as before.

use std::path::PathBuf;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
};

const BUFFER_BYTES: usize = 16 * 1024;

/// What becomes of bytes and of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// All is forwarded.
    Healed,
    /// Nothing is forwarded and nothing is lost: bytes and new connections wait.
    Paused,
    /// Connections are closed as they stand, and new ones at once.
    Cut,
}

/// A TCP proxy on loopback in front of one database. Dropped, it ends with all its connections.
pub struct FaultProxy {
    url: String,
    fault: watch::Sender<Fault>,
    _task: JoinSet<()>,
}

impl FaultProxy {
    /// One in front of the database of `url`, whose host is the folder of a socket.
    pub async fn start(url: &str) -> Self {
        let (user, rest) = url.split_once('@').expect("a user");
        let (host, database) = rest.split_once('/').expect("a database");
        let (folder, port) = host.rsplit_once(':').expect("a port");
        let folder = PathBuf::from(folder.replace("%2F", "/").replace("%2D", "-"));
        let socket = folder.join(format!(".s.PGSQL.{port}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (fault, faults) = watch::channel(Fault::Healed);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, socket, faults));
        Self { url: format!("{user}@{address}/{database}"), fault, _task: task }
    }

    /// The database's URL by way of this proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Holds every byte, as a network does that has gone silent.
    pub fn pause(&self) {
        self.fault.send_replace(Fault::Paused);
    }

    /// Drops every connection and refuses new ones.
    pub fn cut(&self) {
        self.fault.send_replace(Fault::Cut);
    }

    /// Forwards again, what was held first.
    pub fn heal(&self) {
        self.fault.send_replace(Fault::Healed);
    }
}

async fn accept(listener: TcpListener, socket: PathBuf, mut faults: watch::Receiver<Fault>) {
    let mut open = JoinSet::new();
    loop {
        let Ok((near, _)) = listener.accept().await else { return };
        if !passes(&mut faults).await {
            continue;
        }
        let Ok(far) = UnixStream::connect(&socket).await else { continue };
        while open.try_join_next().is_some() {}
        open.spawn(join(near, far, faults.clone()));
    }
}

/// Waits until bytes may pass; false where the connection is to end instead.
async fn passes(faults: &mut watch::Receiver<Fault>) -> bool {
    let fault = faults.wait_for(|fault| *fault != Fault::Paused).await;
    fault.is_ok_and(|fault| *fault == Fault::Healed)
}

async fn is_cut(mut faults: watch::Receiver<Fault>) {
    // An error means that the proxy is gone.
    let _ = faults.wait_for(|fault| *fault == Fault::Cut).await;
}

async fn join(near: TcpStream, far: UnixStream, faults: watch::Receiver<Fault>) {
    near.set_nodelay(true).expect("a connection");
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::select! {
        () = carry(near_in, far_out, faults.clone()) => {}
        () = carry(far_in, near_out, faults.clone()) => {}
        () = is_cut(faults) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut faults: watch::Receiver<Fault>,
) {
    let mut bytes = vec![0; BUFFER_BYTES];
    while let Ok(count) = from.read(&mut bytes).await {
        // Looked at between reading and writing: what was read while it was paused is held too.
        if !passes(&mut faults).await || count == 0 || to.write_all(&bytes[..count]).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider::model::Clock;
    use reqwest::Method;
    use serde_json::json;

    use crate::support::{FaultProxy, Node, TestDatabase, eventually};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_of_two_loses_its_database_and_finds_it_again() {
        let database = TestDatabase::new().await;
        let proxy = FaultProxy::start(database.url()).await;
        let behind = Node::start(proxy.url(), Clock::default()).await;
        behind.is_ready().await;
        let beside = Node::on(&database).await;
        behind.client().put_topic("orders", json!({"partitions": 1})).await;
        let put = |node: &Node| {
            let client = node.client();
            async move {
                let request = client.request(Method::POST, "/v1/topics/orders/messages");
                let request = request.json(&json!({"messages": [{"value": 1}]}));
                client.send(request.timeout(Duration::from_secs(20))).await.status
            }
        };
        assert_eq!((put(&behind).await, put(&beside).await), (200, 200));
        for fault in [FaultProxy::pause, FaultProxy::cut] {
            fault(&proxy);
            let refused = put(&behind).await;
            assert!(matches!(refused, 503 | 504), "{refused}");
            assert_eq!(put(&beside).await, 200);
            proxy.heal();
            eventually("it publishes again", async || (put(&behind).await == 200).then_some(()))
                .await;
        }
        let high = beside.client().watermarks("orders", 0).await.1;
        assert!((6..=8).contains(&high), "{high}");
        for node in [behind, beside] {
            node.stop().await.expect("stops");
        }
    }
}
