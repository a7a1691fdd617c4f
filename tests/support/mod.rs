//! What several tests share.

pub(crate) mod brokers;
pub(crate) mod proxy;
pub(crate) mod sending;
pub(crate) mod tls;
