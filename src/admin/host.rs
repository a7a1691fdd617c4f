//! Which names the admin listener answers to.

use axum::http::uri::{Authority, Uri};
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

    /// Whether a request comes from no page, or from one of ours: one that was served under the very name and port in
    /// `Host`, or under a name of the settings. That an address or `localhost` is known makes no page there ours: it may
    /// be anybody's, on another port.
    pub(super) fn is_own_origin<B>(&self, request: &Request<B>) -> bool {
        let host = request.headers().get(header::HOST).map(header::HeaderValue::as_bytes);
        let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str().as_bytes()));
        request.headers().get_all(header::ORIGIN).iter().all(|origin| {
            let Some(origin) = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok()) else { return false };
            let Some(authority) = origin.authority() else { return false };
            let is_named = self.0.contains(&authority.host().to_ascii_lowercase());
            is_named || host.is_some_and(|host| authority.as_str().as_bytes().eq_ignore_ascii_case(host))
        })
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
    fn a_page_is_ours_by_the_name_it_was_served_under() {
        let is_own = |origins: &[&str]| {
            let mut request = Request::builder().uri("/api/backfill").header(header::HOST, "127.0.0.1:9464");
            for origin in origins {
                request = request.header(header::ORIGIN, *origin);
            }
            Hosts::new(&["Relay.internal".to_owned()]).is_own_origin(&request.body(()).expect("a request"))
        };
        for own in [&[][..], &["http://127.0.0.1:9464"], &["https://relay.internal"], &["https://RELAY.internal:8443"]]
        {
            assert!(is_own(own), "{own:?}");
        }
        for foreign in [
            &["null"][..],
            &[""],
            &["https://evil.example"],
            &["http://127.0.0.1"],
            &["http://127.0.0.1:3000"],
            &["http://localhost:9464"],
            &["http://relay.internal.evil.example"],
            &["http://127.0.0.1:9464", "https://evil.example"],
        ] {
            assert!(!is_own(foreign), "{foreign:?}");
        }
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
