//! ④ Who gets what: consumer groups (assignment, epochs) and queues (runs, leases, retries).

pub mod groups;
