//! Links within the repository, their anchors, and that nothing is hidden from a reader of README.md.

use super::{Document, assert_none, documents, repository};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// Where a link leads, by its path within the repository; `None` leads out of it.
fn target_of(file: &str, link: &str) -> Option<(String, Option<String>)> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor.to_owned())));
    if path.is_empty() {
        return Some((file.to_owned(), anchor));
    }
    let mut parts: Vec<&str> = Path::new(file).parent().unwrap().iter().map(|part| part.to_str().unwrap()).collect();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str().unwrap()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    Some((parts.join("/"), anchor))
}

fn faults(documents: &BTreeMap<String, Document>, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, link) in
        documents.iter().flat_map(|(file, document)| document.links.iter().map(move |link| (file, link)))
    {
        let Some((path, anchor)) = target_of(file, &link.target) else { continue };
        let place = format!("{file}:{}: {}", link.line, link.target);
        if !exists(&path) {
            faults.push(format!("{place}: there is no {path}"));
        } else if let (Some(anchor), Some(target)) = (anchor, documents.get(&path))
            && !target.anchors.contains(&anchor)
        {
            faults.push(format!("{place}: {path} has no such heading"));
        }
    }
    faults
}

#[tokio::test]
async fn every_link_and_anchor_leads_somewhere() {
    let documents = documents().await;
    assert!(documents.values().map(|document| document.links.len()).sum::<usize>() > 50, "the links were not found");
    assert_none(&faults(&documents, |path| repository().join(path).exists()));
}

#[tokio::test]
async fn every_document_is_reached_from_the_readme() {
    let documents = documents().await;
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let mut ahead = vec!["README.md".to_owned()];
    while let Some(file) = ahead.pop() {
        let Some(document) = documents.get(&file) else { continue };
        for (path, _) in document.links.iter().filter_map(|link| target_of(&file, &link.target)) {
            // A folder shows its README.
            let shown = [format!("{path}/README.md"), path];
            let next = shown.into_iter().find(|path| documents.contains_key(path));
            ahead.extend(next.filter(|path| reached.insert(path.clone())));
        }
    }
    let hidden: Vec<String> = documents
        .keys()
        .filter(|file| !reached.contains(*file))
        .map(|file| format!("{file}: no way from README.md"))
        .collect();
    assert_none(&hidden);
}

#[test]
fn a_wrong_link_is_seen() {
    let document = |links: &[&str]| Document {
        anchors: vec!["the-log".to_owned(), "the-log-1".to_owned()],
        links: links.iter().map(|target| super::Link { line: 3, target: (*target).to_owned() }).collect(),
        blocks: Vec::new(),
        tables: Vec::new(),
    };
    let wrong = ["b.md#no", "../docs/c.md", "#nowhere", "no"];
    let right = ["b.md#the-log-1", "../README.md", "#the-log", "https://example.com/no", "../docs/b.md", "../docs"];
    let documents = BTreeMap::from([
        ("docs/a.md".to_owned(), document(&[&wrong[..], &right].concat())),
        ("docs/b.md".to_owned(), document(&[])),
    ]);
    let there = ["docs", "docs/a.md", "docs/b.md", "README.md"];
    let found = faults(&documents, |path| there.contains(&path));
    assert_eq!(found.len(), wrong.len(), "{found:#?}");
    assert!(found.iter().all(|fault| fault.starts_with("docs/a.md:3: ")), "{found:#?}");
}
