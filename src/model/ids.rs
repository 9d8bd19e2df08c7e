//! Numbers that name rows. They come from sequences, are never reused and never shown as offsets.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// Who owns a resource. Names are unique within a tenant.
    TenantId
);
id!(
    /// One incarnation of a topic: a topic made again under its old name has a new id.
    TopicId
);
id!(
    /// One partition of a topic. The row of this id is the append lock.
    PartitionId
);
id!(
    /// A consumer group. A group that is made again under its name keeps its id, so that its
    /// epochs rise for ever.
    GroupId
);
id!(
    /// One physical table of the log, dropped as a whole when its retention has passed.
    BucketId
);

/// The tenant that everything belongs to until credentials say otherwise.
pub const DEFAULT_TENANT: TenantId = TenantId(1);
