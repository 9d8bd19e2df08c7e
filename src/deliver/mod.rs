//! ④ Who gets what: streams (tails and replays), consumer groups (assignment, epochs) and queues
//! (runs, leases, retries).

pub mod groups;
pub mod stream;
