//! `GET /v1/nodes`: the nodes of the database.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::topics::ListParams;
use crate::{
    api::{
        AppState,
        error::{ErrorCode, Problem},
        extract::QueryParams,
    },
    auth::Principal,
    model::{clock::format_ms, limits},
    store::nodes::{NodeRow, NodeState},
};

/// A node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Node)]
pub struct NodeOut {
    /// Its id: a node that starts again has another one.
    #[schema(example = "42")]
    id: String,
    /// Its name, which others may have too.
    name: String,
    /// The version of its program; empty for one that did not tell.
    #[schema(example = "0.1.0")]
    version: String,
    /// `alive`, `draining` when it is about to stop, `silent` when it was not heard of for 15 s.
    /// One that has stopped is not listed, one that is silent for a day neither.
    #[schema(example = "alive")]
    state: &'static str,
    /// Whether it is the one that answers.
    answering: bool,
    /// When it started.
    #[schema(example = "2026-11-24T10:38:00.000Z")]
    started_at: String,
    /// When it was last heard of.
    #[schema(example = "2026-11-24T10:40:03.000Z")]
    heartbeat_at: String,
    /// How long ago that was, by the database's clock.
    heartbeat_age_ms: i64,
}

impl NodeOut {
    fn new(row: NodeRow, answering: i64) -> Self {
        let silence = i64::try_from(limits::NODE_SILENCE.as_millis()).unwrap_or(i64::MAX);
        let state = match row.state {
            _ if row.silent_ms >= silence => "silent",
            NodeState::Serving => "alive",
            NodeState::Draining => "draining",
        };
        Self {
            id: row.id.to_string(),
            name: row.name,
            version: row.version,
            state,
            answering: row.id == answering,
            started_at: format_ms(row.started_ms),
            heartbeat_at: format_ms(row.heartbeat_ms),
            heartbeat_age_ms: row.silent_ms.max(0),
        }
    }
}

/// A page of nodes.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeList {
    /// Nodes in the order in which they started.
    items: Vec<NodeOut>,
    /// Where the next page begins, or `null` at the end.
    next_page_token: Option<String>,
}

/// List nodes
///
/// All that serve the same database, also those that this node never spoke to.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "list_nodes", tag = "nodes",
    params(ListParams),
    responses((status = 200, description = "A page of nodes.", body = NodeList)))]
pub async fn list_nodes(
    _: Principal,
    State(state): State<AppState>,
    QueryParams(params): QueryParams<ListParams>,
) -> Result<Json<NodeList>, Problem> {
    let page = params.page()?;
    let after = match page.after.as_str() {
        "" => 0,
        token => token.parse().map_err(|_| {
            Problem::new(ErrorCode::Invalid, "this is no page token").at("?page_token")
        })?,
    };
    let listed = state.log.nodes(&page.prefix, after, page.wanted()).await;
    let nodes = listed.map_err(|error| Problem::of_read(&error))?;
    let (nodes, next_page_token) = page.cut(nodes, |node| node.id.to_string());
    let answering = state.log.node();
    let items = nodes.into_iter().map(|node| NodeOut::new(node, answering)).collect();
    Ok(Json(NodeList { items, next_page_token }))
}
