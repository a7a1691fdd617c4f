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

/// Sandboxes whose lines stand together. A scrape copies a block's lines of one family at once; a line that changes moves
/// those behind it, some kilobytes at most.
const BLOCK: usize = 64;

/// Cloning is cheap, and a clone is the same.
#[derive(Clone, Default)]
pub(super) struct Series(Arc<Mutex<BTreeMap<String, Blocks>>>);

/// Sandbox and template.
type Key = (String, String);

/// The sandboxes of one source in order: each block under the least key that it may have; the first one under the least of all.
#[derive(Default)]
struct Blocks(BTreeMap<Key, Block>);

#[derive(Default)]
struct Block {
    /// Ascending.
    keys: Vec<Key>,
    families: [Lines; FAMILIES.len()],
}

/// One line for each key of the block, each with its newline.
#[derive(Default)]
struct Lines {
    text: String,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Lines {
    /// Puts `line` in the place of the `removed` lines from `index` on.
    fn splice(&mut self, index: usize, removed: usize, line: Option<&str>) {
        let end = |count: usize| count.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        let (from, to) = (end(index), end(index + removed));
        self.text.replace_range(from..to, line.unwrap_or_default());
        let there = line.map(|line| from + line.len());
        self.ends.splice(index..index + removed, there);
        let behind = index + usize::from(there.is_some());
        for end in self.ends.iter_mut().skip(behind) {
            *end = *end - to + there.unwrap_or(from);
        }
    }

    fn split_off(&mut self, index: usize) -> Self {
        let ends = self.ends.split_off(index);
        let from = self.ends.last().copied().unwrap_or(0);
        Self { text: self.text.split_off(from), ends: ends.into_iter().map(|end| end - from).collect() }
    }
}

impl Blocks {
    /// The block that has the key, if any has.
    fn block(&mut self, key: &Key) -> Option<(Key, &mut Block)> {
        let (least, _) = self.0.range(..=key).next_back()?;
        let least = least.clone();
        let block = self.0.get_mut(&least)?;
        Some((least, block))
    }

    fn set(&mut self, key: Key, lines: [&str; FAMILIES.len()]) {
        self.0.entry(Key::default()).or_default();
        let Some((_, block)) = self.block(&key) else { return };
        let (index, removed) = match block.keys.binary_search(&key) {
            Ok(index) => (index, 1),
            Err(index) => (index, 0),
        };
        for (family, line) in block.families.iter_mut().zip(lines) {
            family.splice(index, removed, Some(line));
        }
        block.keys.splice(index..index + removed, [key]);
        if block.keys.len() > BLOCK {
            let keys = block.keys.split_off(BLOCK / 2);
            let families = block.families.each_mut().map(|family| family.split_off(BLOCK / 2));
            if let Some(first) = keys.first().cloned() {
                self.0.insert(first, Block { keys, families });
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some((least, block)) = self.block(key) else { return };
        let Ok(index) = block.keys.binary_search(key) else { return };
        block.families.iter_mut().for_each(|family| family.splice(index, 1, None));
        block.keys.remove(index);
        if block.keys.is_empty() {
            self.0.remove(&least);
        }
    }
}

impl Series {
    fn by_source(&self) -> MutexGuard<'_, BTreeMap<String, Blocks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, source: &str, sandbox_id: &str, template_id: &str, used: &Used) {
        let Used { sandboxes: _, cpus, cpu_used, memory_used, memory_limit, disk_used, disk_size } = *used;
        let (source_text, sandbox_text, template_text) = (escaped(source), escaped(sandbox_id), escaped(template_id));
        let of = format!("source=\"{source_text}\",sandbox_id=\"{sandbox_text}\"");
        let values = [1.0, cpus, cpu_used, memory_used, memory_limit, disk_used, disk_size];
        let mut lines = FAMILIES.map(|(name, _)| format!("{name}{{{of}"));
        if let Some(info) = lines.first_mut() {
            // Writing to a string does not fail.
            let _ = write!(info, ",template_id=\"{template_text}\"");
        }
        for (line, value) in lines.iter_mut().zip(values) {
            let _ = writeln!(line, "}} {value}");
        }
        let key = (sandbox_id.to_owned(), template_id.to_owned());
        self.by_source().entry(source.to_owned()).or_default().set(key, lines.each_ref().map(String::as_str));
    }

    pub(super) fn remove(&self, source: &str, sandbox_id: &str, template_id: &str) {
        let mut all = self.by_source();
        if let Some(blocks) = all.get_mut(source) {
            blocks.remove(&(sandbox_id.to_owned(), template_id.to_owned()));
            // The first one is there even while it has none.
            if blocks.0.values().all(|block| block.keys.is_empty()) {
                all.remove(source);
            }
        }
    }

    /// Adds the families to `text`, those aside of sources that are gone.
    pub(super) fn write(&self, text: &mut String, is_gone: impl Fn(&str) -> bool) {
        let all = self.by_source();
        let there: Vec<&Block> =
            all.iter().filter(|(source, _)| !is_gone(source)).flat_map(|(_, blocks)| blocks.0.values()).collect();
        if there.is_empty() {
            return;
        }
        // All room at once, instead of moving megabytes whenever it doubles.
        let lines = there.iter().flat_map(|block| &block.families).map(|lines| lines.text.len()).sum::<usize>();
        text.reserve(2048 + lines);
        for (index, (name, help)) in FAMILIES.iter().enumerate() {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            there.iter().filter_map(|block| block.families.get(index)).for_each(|lines| text.push_str(&lines.text));
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
    use std::collections::BTreeSet;

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
    #[test]
    fn many_come_change_and_go_in_any_order() {
        let (series, mut random) = (Series::default(), fastrand::Rng::with_seed(7));
        let mut there = BTreeMap::new();
        for _ in 0..20_000 {
            let id = format!("s{}", random.u32(0..600));
            if random.u8(0..3) == 0 {
                series.remove("acme", &id, "t");
                there.remove(&id);
            } else {
                let value = f64::from(random.u32(0..1_000_000));
                series.set("acme", &id, "t", &Used { disk_used: value, ..Used::default() });
                there.insert(id, value);
            }
        }
        let text = text(&series, "");
        let expected: BTreeSet<String> = there
            .iter()
            .map(|(id, value)| format!("e2b_sandbox_disk_used_bytes{{source=\"acme\",sandbox_id=\"{id}\"}} {value}"))
            .collect();
        let shown: Vec<String> =
            text.lines().filter(|line| line.starts_with("e2b_sandbox_disk_used_bytes{")).map(str::to_owned).collect();
        assert_eq!(shown.len(), expected.len());
        assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), expected);
        assert_eq!(text.lines().count(), 7 * (2 + there.len()));
        for id in there.keys() {
            series.remove("acme", id, "t");
        }
        assert!(series.by_source().is_empty());
    }
}
