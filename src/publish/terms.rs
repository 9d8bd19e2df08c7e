//! What a request can ask of the log beyond being appended.

/// What has to hold for a request to be appended. Most requests have none.
#[derive(Debug, Default)]
pub struct Terms {
    /// The offset that its first message has to get; all its messages go to one partition.
    pub expect_offset: Option<i64>,
}

impl Terms {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.expect_offset.is_none()
    }
}
