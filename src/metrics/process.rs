//! The `process_*` families.

use super::{Error, clamp, float_counter, gauge, int_gauge};
use prometheus::{Counter, IntGauge, Registry};

/// They have no prefix, and so a registry of their own. Read from `/proc/self` at each scrape.
#[derive(Clone)]
pub(super) struct Process {
    registry: Registry,
    cpu: Counter,
    resident: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
}

impl Process {
    pub(super) fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let start =
            gauge(&registry, "process_start_time_seconds", "Unix time at which the process started, in seconds.")?;
        start.set(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        );
        Ok(Self {
            cpu: float_counter(&registry, "process_cpu_seconds_total", "User and system CPU time spent, in seconds.")?,
            resident: int_gauge(&registry, "process_resident_memory_bytes", "Resident memory, in bytes.")?,
            open_fds: int_gauge(&registry, "process_open_fds", "Open file descriptors.")?,
            max_fds: int_gauge(&registry, "process_max_fds", "The soft limit on open file descriptors.")?,
            registry,
        })
    }

    pub(super) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Fields are counted after the command's closing parenthesis, since the command may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
        let number = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        // The system counts; ours only shows what it says.
        self.cpu.reset();
        self.cpu.inc_by((number(11) + number(12)) as f64 / ticks as f64);
        self.resident.set(clamp(number(21).saturating_mul(rustix::param::page_size() as u64)));
        self.open_fds.set(std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as i64));
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        self.max_fds.set(clamp(limit));
        self.registry.gather()
    }
}
