//! The handlers of REST, a file per resource.

pub mod docs;
pub mod groups;
pub mod limits;
mod log_token;
pub mod messages;
mod ndjson;
pub mod nodes;
pub mod ops;
pub mod publish;
pub mod stream;
mod topic_settings;
pub mod topics;

pub use log_token::LogToken;
pub use messages::position;
