//! What several tests share.

pub(crate) mod brokers;
pub(crate) mod sign;
