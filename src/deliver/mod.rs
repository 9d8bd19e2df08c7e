//! ④ Who gets what: consumer groups (assignment, epochs) and queues (runs, leases, retries).
//!
//! Nothing is delivered to groups or queues yet; readers go through [`crate::log::read`].
