//! Messages as clients write and read them.

mod digest;
mod place;
mod producer;
mod read;
mod write;

pub use digest::digest;
pub use place::{Placed, RequestRecords, check_depth, check_size, partition, place};
pub use producer::ProducerIn;
pub use read::{MessagePage, MessageSchema, write_items, write_messages, write_page};
pub use write::{Field, MessageIn, MessagesIn, PublishIn, Text};
