//! One address for several nodes: a connection goes to the node that is named when it begins.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// A TCP proxy on loopback. Dropped, it ends with all its connections.
pub struct Balancer {
    address: SocketAddr,
    node: watch::Sender<String>,
    _task: JoinSet<()>,
}

impl Balancer {
    /// One that leads to the node at `base`, such as `http://127.0.0.1:8080`.
    pub async fn start(base: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (node, current) = watch::channel(authority(base));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let Ok((mut near, _)) = listener.accept().await else { return };
                while open.try_join_next().is_some() {}
                let node = current.borrow().clone();
                open.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(node).await else { return };
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { address, node, _task: task }
    }

    /// Its own URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// New connections go to another node.
    pub fn lead_to(&self, base: &str) {
        self.node.send_replace(authority(base));
    }
}

fn authority(base: &str) -> String {
    base.trim_start_matches("http://").trim_end_matches('/').to_owned()
}
