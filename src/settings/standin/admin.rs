//! The section `admin` of the settings: the operators' listener.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// The operators' listener: metrics and health.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port.
    pub listen: SocketAddr,
    /// Host names under which the listener answers, besides IP addresses and `localhost`. A page on another site that
    /// lets its name point here (DNS rebinding) gets 421.
    pub hosts: Vec<String>,
}

/// Keys of the contract that a later version delivers; until then they are refused, not ignored.
pub const NOT_YET: &[&str] = &["token_file"];

impl Default for Settings {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)), hosts: Vec::new() }
    }
}
