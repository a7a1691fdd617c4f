//! Keys that are read at the start only.

use crate::settings::Settings;

/// The keys whose value differs and counts only after a restart; each gets its old value back, so that what runs and what
/// is compared next time stay the same.
pub(super) fn keep(old: &Settings, new: &mut Settings) -> Vec<&'static str> {
    let mut differs = Vec::new();
    macro_rules! keep {
        ($($section:ident: $($key:ident),+;)+) => {$($(
            if old.$section.$key != new.$section.$key {
                differs.push(concat!(stringify!($section), ".", stringify!($key)));
                new.$section.$key = old.$section.$key.clone();
            }
        )+)+};
    }
    keep! {
        server: listen, tls, max_body, max_buffered, max_in_flight, max_connections, request_timeout, commit_timeout;
        admin: listen;
        store: path, dedupe_window, retention, max_size, max_samples_size, max_dead_letters_size, min_free;
    }
    differs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::schema;
    use serde_json::{Value, json};

    /// What each key is given to be another than its default.
    fn other(section: &str, key: &str) -> Value {
        match (section, key) {
            (_, "listen") => json!("127.0.0.9:9"),
            (_, "tls") => json!({"cert_file": "/c", "key_file": "/k"}),
            (_, "path") => json!("/elsewhere"),
            (_, "dedupe_window" | "retention" | "request_timeout" | "commit_timeout") => json!("7s"),
            (_, "max_in_flight" | "max_connections") => json!(7),
            _ => json!("7MiB"),
        }
    }

    #[test]
    fn every_key_of_server_and_store_is_kept_and_told() {
        let whole = schema();
        for section in ["server", "store"] {
            let name = whole["properties"][section]["$ref"].as_str().and_then(|name| name.rsplit('/').next());
            let properties = match name {
                Some(name) => &whole["$defs"][name]["properties"],
                None => &whole["properties"][section]["properties"],
            };
            let keys: Vec<&String> = properties.as_object().unwrap().keys().collect();
            assert!(keys.len() > 5, "{keys:?}");
            for key in keys {
                let old: Settings = serde_json::from_value(json!({})).unwrap();
                let mut new: Settings =
                    serde_json::from_value(json!({section: {key.as_str(): other(section, key)}})).unwrap();
                assert_eq!(keep(&old, &mut new), [format!("{section}.{key}")], "not kept");
                assert_eq!(keep(&old, &mut new), [""; 0], "it got its old value");
            }
        }
    }
}
