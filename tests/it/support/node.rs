//! A node in this process.

use std::net::SocketAddr;

use postrider::{
    app::{self, NodeOptions},
    lifecycle::Lifecycle,
    model::Clock,
    store::connect::Target,
};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{Client, TestDatabase, eventually, soon};

/// A whole node behind a port of its own. Dropped, it stops without being waited for.
pub struct Node {
    address: SocketAddr,
    lifecycle: Lifecycle,
    served: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Node {
    /// One that is ready on `database`.
    pub async fn on(database: &TestDatabase) -> Self {
        let node = Self::start(database.url(), Clock::default()).await;
        node.is_ready().await;
        node
    }

    /// One that serves, but may not be ready, on the database of `url`.
    pub async fn start(url: &str, clock: Clock) -> Self {
        Self::start_with(NodeOptions::default(), url, clock).await
    }

    /// Such a one that serves as `options` say.
    pub async fn start_with(options: NodeOptions, url: &str, clock: Clock) -> Self {
        let lifecycle = Lifecycle::new();
        let target = Target::parse(url).expect("a URL");
        let node = app::Node::with(options, target, clock, &lifecycle);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        // Outside its own life, which the node waits for.
        let served = Lifecycle::new().spawn(node.serve(listener, "test".to_owned()));
        Self { address, lifecycle, served: Some(served) }
    }

    /// Completes when it can serve.
    pub async fn is_ready(&self) {
        let client = self.client();
        eventually("the node is ready", async || {
            (client.get("/readyz").await.status == 200).then_some(())
        })
        .await;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of its own connections.
    pub fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address))
    }

    /// Waits for an end that it comes to by itself.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        let served = self.served.take().expect("ends once");
        soon("the node ends", served).await.expect("no panic")
    }

    /// Drains it and waits for its end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.lifecycle.stop();
        let served = self.served.take().expect("stopped once");
        soon("the node stops", served).await.expect("no panic")
    }
}

/// A node on a database of its own, and a client.
pub async fn one_node() -> (TestDatabase, Node, Client) {
    let database = TestDatabase::new().await;
    let node = Node::on(&database).await;
    let client = node.client();
    (database, node, client)
}

/// Two nodes on one database, and a client of each.
pub struct TwoNodes {
    pub nodes: [Node; 2],
    pub clients: [Client; 2],
    pub database: TestDatabase,
}

impl TwoNodes {
    pub async fn new() -> Self {
        Self::with(NodeOptions::default()).await
    }

    /// Two that serve as `options` say.
    pub async fn with(options: NodeOptions) -> Self {
        let database = TestDatabase::new().await;
        let start = || Node::start_with(options.clone(), database.url(), Clock::default());
        let nodes = [start().await, start().await];
        for node in &nodes {
            node.is_ready().await;
        }
        let clients = [nodes[0].client(), nodes[1].client()];
        Self { nodes, clients, database }
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await.expect("stops");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.lifecycle.abort();
    }
}
