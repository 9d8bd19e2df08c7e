//! The domain's own words: names, ids, offsets, durations, settings, limits. Pure: no IO, no
//! wire shapes, no SQL.

pub mod clock;
pub mod duration;
pub mod ids;
pub mod limits;
pub mod name;
pub mod topic;

pub use clock::Clock;
pub use ids::{BucketId, PartitionId, TenantId, TopicId};
pub use name::Name;
