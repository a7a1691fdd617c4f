//! Which names the admin listener answers to.

use axum::http::uri::Authority;
use axum::http::{Request, header};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

/// An IP address, `localhost`, and what the settings add.
pub(super) struct Hosts(HashSet<String>);

impl Hosts {
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether every name that the request gives is ours: the target's, if it has one (HTTP/2, or an absolute URI), and
    /// that of each `Host`. One there must be.
    pub(super) fn allow<B>(&self, request: &Request<B>) -> bool {
        let target = request.uri().authority().map(|authority| self.knows(authority));
        let headers = request.headers().get_all(header::HOST).iter();
        let headers = headers.map(|host| {
            host.to_str().ok().and_then(|host| host.parse().ok()).is_some_and(|authority| self.knows(&authority))
        });
        let mut judged = target.into_iter().chain(headers).peekable();
        judged.peek().is_some() && judged.all(|known| known)
    }

    fn knows(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let host = host.to_ascii_lowercase();
        host == "localhost" || host.parse::<IpAddr>().is_ok() || self.0.contains(&host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(uri: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        Hosts::new(&["Relay.internal".to_owned()]).allow(&request.body(()).expect("a request"))
    }

    #[test]
    fn addresses_localhost_and_configured_names_are_answered() {
        for host in [
            "127.0.0.1",
            "10.1.2.3:9464",
            "[::1]:9464",
            "[fe80::1]",
            "localhost",
            "LOCALHOST:80",
            "relay.INTERNAL:9464",
        ] {
            assert!(allows("/metrics", &[host]), "{host}");
        }
        assert!(allows("http://relay.internal/metrics", &[]));
        assert!(allows("http://127.0.0.1/metrics", &["127.0.0.1"]));
    }

    #[test]
    fn every_other_name_is_not() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "xrelay.internal",
            "relay.internal.",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "evil@localhost",
            "[::1",
            "[localhost]",
            "[127.0.0.1]",
            "127.0.0.1 evil",
            "0x7f.1",
        ] {
            assert!(!allows("/metrics", &[host]), "{host:?}");
        }
        assert!(!allows("/metrics", &[]));
        assert!(!allows("/metrics", &["localhost", "evil.example"]));
        assert!(!allows("http://evil.example/metrics", &["localhost"]));
        assert!(!allows("http://localhost/metrics", &["evil.example"]));
    }
}
