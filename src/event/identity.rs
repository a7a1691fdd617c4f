//! Ids of what comes without one: UUIDv5 in the relay's own namespace, so that the same thing always gets the same id.

use uuid::Uuid;

const NAMESPACE: Uuid = Uuid::from_u128(0x20583ce9_6b17_4e84_994c_12c85818e57f);

fn derive(name: &str) -> String {
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string()
}

/// Of a delivery without id; `sha256_hex` is that of the raw body, in lower case.
pub fn body_id(sha256_hex: &str) -> String {
    derive(&format!("body:{sha256_hex}"))
}

/// Of a metrics sample.
pub fn metrics_id(sandbox_id: &str, unix_seconds: i64) -> String {
    derive(&format!("metrics:{sandbox_id}:{unix_seconds}"))
}

/// Of a state that only the sandbox list shows.
pub fn reconcile_id(sandbox_id: &str, state: &str, started_at: &str) -> String {
    derive(&format!("reconcile:{sandbox_id}:{state}:{started_at}"))
}

/// Of the usage record of one execution.
pub fn usage_id(execution_id: &str) -> String {
    derive(&format!("usage:{execution_id}"))
}

/// Of the record that a sandbox is still there although an event of that id told its end.
pub fn unconfirmed_id(killed_event_id: &str) -> String {
    derive(&format!("kill_unconfirmed:{killed_event_id}"))
}

/// Of the record of a gap; `from` is where it begins, RFC 3339.
pub fn gap_id(source: &str, from: &str) -> String {
    derive(&format!("gap:{source}:{from}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values from Python: uuid.uuid5(uuid.UUID("20583ce9-6b17-4e84-994c-12c85818e57f"), name).
    #[test]
    fn derived_ids_are_uuid_v5_in_the_relays_namespace() {
        assert_eq!(body_id(&"0".repeat(64)), "627ce760-3f1f-522b-a6ba-9969855a6dca");
        assert_eq!(metrics_id("iz62km2v0zwlow3i7icxv", 1785225845), "a8936bb2-9b92-50e2-9a08-e1970f187ed1");
        assert_eq!(reconcile_id("sbx", "running", "2026-08-21T10:00:00Z"), "2ece4f72-a45f-53d6-81f5-71799d48f764");
        assert_eq!(usage_id("1dae9e1c"), "639b9d35-df7c-5357-8b8d-f0648029f5fa");
        assert_eq!(gap_id("acme", "2026-08-21T10:00:00Z"), "1bbcb245-dfdd-5f2b-8491-539360b0a66a");
        assert_eq!(unconfirmed_id("1dae9e1c"), "78149500-9579-5667-bcd1-11c1ee1407f7");
    }
}
