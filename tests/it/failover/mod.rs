//! A synchronous standby: what `replicated` says, what happens when the standby is away, and
//! when it takes over.

mod standby;
