//! Prometheus' text, read without the relay's code.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// One family as `/metrics` shows it.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) kind: String,
    pub(super) help: String,
    /// Labels and value of each series; of a histogram its buckets, sum and count.
    pub(super) series: Vec<(BTreeMap<String, String>, f64)>,
}

impl Family {
    /// The names of the labels, which are the same in all series; `le` aside.
    pub(super) fn labels(&self) -> BTreeSet<Vec<&str>> {
        let names = |labels: &'_ BTreeMap<String, String>| -> Vec<String> {
            labels.keys().filter(|name| *name != "le").cloned().collect()
        };
        let mut all = BTreeSet::new();
        for (labels, _) in &self.series {
            let wanted = names(labels);
            all.insert(labels.keys().map(String::as_str).filter(|name| wanted.iter().any(|one| one == name)).collect());
        }
        all
    }

    /// The values of one label.
    pub(super) fn values(&self, label: &str) -> BTreeSet<&str> {
        self.series.iter().filter_map(|(labels, _)| labels.get(label)).map(String::as_str).collect()
    }
}

pub(super) fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let histogram = histogram.filter(|name| families.get(*name).is_some_and(|one| one.kind == "histogram"));
            let family = families.get_mut(histogram.unwrap_or(name)).unwrap_or_else(|| panic!("{line}: no TYPE"));
            family.series.push((pairs(labels.strip_suffix('}').unwrap()), value.parse().unwrap()));
        }
    }
    families
}

/// `a="b",c="d"`; no value in these tests holds a quote.
fn pairs(labels: &str) -> BTreeMap<String, String> {
    let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.trim_end_matches('"').split_once("=\"").unwrap_or_else(|| panic!("{labels}")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What Prometheus' own tool finds wrong; nothing when all is well.
pub(super) async fn promtool(text: &str) -> String {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool; tests/run installs it");
    let mut stdin = promtool.stdin.take().unwrap();
    let text = text.to_owned();
    let writing = tokio::spawn(async move { stdin.write_all(text.as_bytes()).await });
    let output = promtool.wait_with_output().await.unwrap();
    // One that refuses the text may not read it to its end.
    let _ = writing.await.unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    if said.is_empty() && !output.status.success() { output.status.to_string() } else { said }
}
