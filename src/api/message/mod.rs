//! Messages as clients write and read them.

mod place;
mod read;
mod write;

pub use place::{Placed, RequestRecords, check_depth, check_size, partition, place};
pub use read::{MessagePage, MessageSchema, write_messages, write_page};
pub use write::{Field, MessageIn, PublishIn};
