//! The rows of the table, a scenario a file.

pub mod floors;
pub mod singles;
