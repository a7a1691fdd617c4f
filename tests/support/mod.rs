//! What several tests share.

pub(crate) mod brokers;
pub(crate) mod consume;
pub(crate) mod daemon;
pub(crate) mod load;
pub(crate) mod sign;
