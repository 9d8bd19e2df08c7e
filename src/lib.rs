//! Postrider: topics and queues over HTTP and WebSocket, on PostgreSQL.
//!
//! The way of a message, in the order of the modules: a client's [`publish`] becomes an append
//! to the [`log`]; readers are woken and [`deliver`] hands messages out; [`commit`] settles what
//! was handed out. [`store`] holds all SQL, [`record`] the format of what is stored, [`model`]
//! the words that everything shares.

pub mod app;
pub mod lifecycle;

pub mod config;
pub mod model;

pub mod record;
pub mod store;

pub mod log;

pub mod auth;
pub mod catalog;

pub mod commit;
pub mod deliver;
pub mod publish;

pub mod api;
pub mod cli;
pub mod maintenance;

pub mod postgres;
pub mod telemetry;
