//! Messages as clients write and read them.

mod read;
mod write;

pub use read::{MessagePage, write_page};
pub use write::{
    Field, MessageIn, Placed, PublishIn, RequestRecords, check_depth, check_size, partition, place,
};
