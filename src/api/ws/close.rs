//! How a socket ends. 4000 to 4099: come back, after a pause that is not always the same. 4100 to
//! 4199: do not.

use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

/// Why the node closes a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client closed it.
    Normal,
    /// The client broke the protocol of WebSockets (RFC 6455).
    Protocol,
    /// Text that is no UTF-8.
    NotUtf8,
    /// A message over [`crate::model::limits::BODY_BYTES_MAX`].
    TooBig,
    /// The node stops.
    Draining,
    /// The client answered no ping.
    Silent,
    /// Unfinished messages of all sockets take too much of the node's memory.
    Overloaded,
    /// The client took nothing of what waited for it.
    TooSlow,
    /// Too many pings and pongs.
    Flood,
    /// What came is no JSON object.
    NoObject,
    /// A later process of a member has joined.
    LaterGeneration,
}

impl Close {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Normal,
        Self::Protocol,
        Self::NotUtf8,
        Self::TooBig,
        Self::Draining,
        Self::Silent,
        Self::Overloaded,
        Self::TooSlow,
        Self::Flood,
        Self::NoObject,
        Self::LaterGeneration,
    ];

    /// The code as it is sent.
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            Self::Draining => 4000,
            Self::Silent => 4001,
            Self::Overloaded => 4003,
            Self::TooSlow => 4008,
            Self::Flood => 4029,
            Self::NoObject => 4100,
            Self::LaterGeneration => 4103,
        }
    }

    /// The reason as it is sent.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::Protocol => "a violation of RFC 6455",
            Self::NotUtf8 => "text is UTF-8",
            Self::TooBig => "a message has at most 16 MiB",
            Self::Draining => "this node stops",
            Self::Silent => "no pong came in time",
            Self::Overloaded => "too many unfinished messages on this node",
            Self::TooSlow => "nothing was taken for too long",
            Self::Flood => "too many pings and pongs",
            Self::NoObject => "each frame is one JSON object as text",
            Self::LaterGeneration => "a later generation of this member came",
        }
    }

    pub(super) fn frame(self) -> CloseFrame {
        CloseFrame { code: CloseCode::from(self.code()), reason: self.reason().into() }
    }
}
