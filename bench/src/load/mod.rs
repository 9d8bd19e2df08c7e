//! The load generator. It shares the machine with what it measures, so it is as lean as it can
//! be: prepared requests over kept-alive connections, and a parser that reads a status and a body.

pub mod client;
pub mod frames;
pub mod generator;
pub mod group_socket;
pub mod histogram;
pub mod member;
pub mod numbered;
pub mod paced;
pub mod payload;
pub mod socket;
