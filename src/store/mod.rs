//! All SQL, and nothing but SQL. Functions take a connection and never begin or commit, unless
//! their name says so.
//!
//! Locks are taken in one order everywhere: a bucket's advisory lock, rows of `partitions` by
//! id, rows of `segments` by partition and offset. Advisory keys carry their class in the high
//! bits ([`lock`]), so that no two uses ever meet.

pub mod append;
pub mod buckets;
pub mod claims;
pub mod connect;
pub mod database;
pub mod doctor;
pub mod error;
pub mod groups;
pub mod incarnation;
pub mod lock;
pub mod migrate;
pub mod nodes;
pub mod notify;
pub mod once;
pub mod outbox;
pub mod read;
pub mod replication;
pub mod retention;
pub mod server;
pub mod topics;
pub mod wakes;

pub use database::{Database, PooledSession, Session};
pub use error::StoreError;
pub use incarnation::Incarnation;
