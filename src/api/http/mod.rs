//! The handlers of REST, a file per resource.

pub mod docs;
pub mod limits;
pub mod ops;
