//! The section `admin` of the settings: the operators' listener.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The operators' listener: metrics, health, the status page and the admin API.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port; changed, it needs a restart.
    pub listen: SocketAddr,
    /// A file with the token that changes need, and reading where the listener is not on a loopback address: one line of
    /// 16 or more visible ASCII characters. Without it the daemon makes one, `admin-token` in the store's folder, which
    /// only its owner can read. The status page asks for it once, and gives the browser a cookie. `/metrics`, `/livez` and `/readyz` need none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub token_file: Option<PathBuf>,
    /// Host names under which the listener answers, besides IP addresses and `localhost`. A page on another site that
    /// lets its name point here (DNS rebinding) gets 421.
    pub hosts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)), token_file: None, hosts: Vec::new() }
    }
}
