//! What several tests share.

pub(crate) mod brokers;
pub(crate) mod consume;
pub(crate) mod daemon;
pub(crate) mod fault_disk;
pub(crate) mod forward;
pub(crate) mod gated_disk;
pub(crate) mod journal;
pub(crate) mod kafka_acl;
pub(crate) mod load;
pub(crate) mod old_format;
pub(crate) mod oracle;
pub(crate) mod phases;
pub(crate) mod probe;
pub(crate) mod proxy;
pub(crate) mod seed;
pub(crate) mod sending;
pub(crate) mod sign;
pub(crate) mod stored;
pub(crate) mod strace;
pub(crate) mod tls;
pub(crate) mod verify;
pub(crate) mod yaml;
