//! The gauges of single sandboxes, kept as the text that they become.
//!
//! There may be 70,000 of them, asked for every few seconds and changed less often: a line is written when its value
//! changes, and a scrape only copies. By the registry a scrape would clone each label of each series first, and keep a worker
//! from deliveries for as long.

use super::Used;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Name and help.
const FAMILIES: [(&str, &str); 7] = [
    ("e2b_sandbox_info", "A running sandbox and what it was made from, always 1."),
    ("e2b_sandbox_cpus", "CPUs of the sandbox."),
    ("e2b_sandbox_cpu_used_ratio", "CPU in use, 1 for 100 %."),
    ("e2b_sandbox_memory_used_bytes", "Memory in use, in bytes."),
    ("e2b_sandbox_memory_limit_bytes", "Memory that is there, in bytes."),
    ("e2b_sandbox_disk_used_bytes", "Disk in use, in bytes."),
    ("e2b_sandbox_disk_size_bytes", "Disk that is there, in bytes."),
];

/// Cloning is cheap, and a clone is the same.
#[derive(Clone, Default)]
pub(super) struct Series(Arc<Mutex<BySource>>);

/// By source, then by sandbox and template.
type BySource = BTreeMap<String, BTreeMap<(String, String), Lines>>;

/// One line for each family, each with its newline, and where each ends.
#[derive(Default)]
struct Lines {
    text: Box<str>,
    ends: [u32; FAMILIES.len()],
}

impl Lines {
    fn of(&self, family: usize) -> Option<&str> {
        let begin = family.checked_sub(1).map_or(Some(&0), |before| self.ends.get(before))?;
        self.text.get(*begin as usize..*self.ends.get(family)? as usize)
    }
}

impl Series {
    fn by_source(&self) -> MutexGuard<'_, BySource> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, source: &str, sandbox_id: &str, template_id: &str, used: &Used) {
        let Used { sandboxes: _, cpus, cpu_used, memory_used, memory_limit, disk_used, disk_size } = *used;
        let (source_text, sandbox_text, template_text) = (escaped(source), escaped(sandbox_id), escaped(template_id));
        let of = format!("source=\"{source_text}\",sandbox_id=\"{sandbox_text}\"");
        let values = [1.0, cpus, cpu_used, memory_used, memory_limit, disk_used, disk_size];
        let mut text = String::new();
        let mut ends = [0; FAMILIES.len()];
        for (((name, _), value), end) in FAMILIES.iter().zip(values).zip(&mut ends) {
            let template =
                if *name == "e2b_sandbox_info" { format!(",template_id=\"{template_text}\"") } else { String::new() };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}{{{of}{template}}} {value}");
            // Ids have at most 255 characters.
            *end = u32::try_from(text.len()).unwrap_or(u32::MAX);
        }
        let key = (sandbox_id.to_owned(), template_id.to_owned());
        self.by_source().entry(source.to_owned()).or_default().insert(key, Lines { text: text.into(), ends });
    }

    pub(super) fn remove(&self, source: &str, sandbox_id: &str, template_id: &str) {
        let mut all = self.by_source();
        if let Some(sandboxes) = all.get_mut(source) {
            sandboxes.remove(&(sandbox_id.to_owned(), template_id.to_owned()));
            if sandboxes.is_empty() {
                all.remove(source);
            }
        }
    }

    /// Adds the families to `text`, those aside of sources that are gone.
    pub(super) fn write(&self, text: &mut String, is_gone: impl Fn(&str) -> bool) {
        let all = self.by_source();
        let there: Vec<_> =
            all.iter().filter(|(source, _)| !is_gone(source)).flat_map(|(_, one)| one.values()).collect();
        if there.is_empty() {
            return;
        }
        // All room at once, instead of moving megabytes whenever it doubles.
        text.reserve(2048 + there.iter().map(|lines| lines.text.len()).sum::<usize>());
        for (index, (name, help)) in FAMILIES.iter().enumerate() {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            there.iter().filter_map(|lines| lines.of(index)).for_each(|line| text.push_str(line));
        }
    }
}

/// A label's value as Prometheus' text has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(series: &Series, gone: &str) -> String {
        let mut text = String::new();
        series.write(&mut text, |source| source == gone);
        text
    }

    #[test]
    fn what_is_set_stands_there_until_it_is_removed() {
        let series = Series::default();
        assert_eq!(text(&series, ""), "");
        let used = Used { cpus: 2.0, cpu_used: 0.5, memory_used: 1e12, ..Used::default() };
        series.set("acme", "s\"b\\x\n", "t", &used);
        series.set("beta", "other", "t", &used);
        let both = text(&series, "");
        for line in [
            "# TYPE e2b_sandbox_info gauge",
            r#"e2b_sandbox_info{source="acme",sandbox_id="s\"b\\x\n",template_id="t"} 1"#,
            r#"e2b_sandbox_cpus{source="acme",sandbox_id="s\"b\\x\n"} 2"#,
            r#"e2b_sandbox_cpu_used_ratio{source="beta",sandbox_id="other"} 0.5"#,
            r#"e2b_sandbox_memory_used_bytes{source="beta",sandbox_id="other"} 1000000000000"#,
        ] {
            assert!(both.lines().any(|one| one == line), "{line}\n{both}");
        }
        assert_eq!(both.lines().count(), 7 * 4);
        assert!(!text(&series, "beta").contains("beta"));
        series.remove("acme", "s\"b\\x\n", "t");
        assert!(!text(&series, "").contains("acme"));
        series.remove("beta", "other", "t");
        assert_eq!(text(&series, ""), "");
    }
}
