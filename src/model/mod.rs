//! The domain's own words: names, ids, offsets, durations, settings, limits. Pure: no IO, no
//! wire shapes, no SQL.

pub mod clock;
pub mod duration;
pub mod group;
pub mod ids;
pub mod limits;
pub mod name;
pub mod network;
pub mod origin;
pub mod topic;

pub use clock::Clock;
pub use ids::{BucketId, GroupId, PartitionId, TenantId, TopicId};
pub use name::Name;
pub use network::TrustedProxies;
pub use origin::AllowedOrigins;
