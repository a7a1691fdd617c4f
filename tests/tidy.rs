//! Rules of the house that a test can hold: who imports whom, which crate lives where, how long files are, what lies at
//! the top.

mod source;

use source::{code_only, names_after, uses_crate};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file past 400 lines is asking to be two; past this it is not asked.
const MAX_LINES: usize = 500;

/// Foreign crates that have a room: where they may be used, as paths under `src`. A second place that needs one is
/// asked to go through the first.
const ROOMS_OF_CRATES: &[(&str, &[&str])] = &[
    ("anyhow", &["app", "cli", "main"]),
    ("async_nats", &["sink/nats"]),
    ("axum", &["http", "admin", "simulator", "source/webhook"]),
    ("base64", &["verify", "route", "simulator", "sink", "admin"]),
    ("apache_avro", &["route"]),
    ("cel", &["route"]),
    ("clap", &["cli", "main"]),
    ("clap_complete", &["cli"]),
    ("config", &["settings"]),
    ("crc32c", &["store"]),
    ("flate2", &["sink/file"]),
    ("globset", &["route"]),
    ("hmac", &["verify", "simulator"]),
    ("http_body_util", &["http", "source/webhook"]),
    ("humantime", &["settings", "admin", "cli"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    ("indicatif", &["cli"]),
    ("lapin", &["sink/amqp"]),
    ("listenfd", &["http"]),
    ("minijinja", &["route", "admin/page"]),
    ("prometheus", &["metrics"]),
    ("rdkafka", &["sink/kafka"]),
    ("reqwest", &["client"]),
    ("rustix", &["metrics", "store", "sink/file", "systemd", "app"]),
    ("rustls", &["certificate", "client", "http", "sink", "main"]),
    ("rustls_native_certs", &["sink"]),
    ("secrecy", &["secret"]),
    ("serde_path_to_error", &["settings"]),
    ("sha2", &["verify", "simulator", "admin/page"]),
    ("siphasher", &["store"]),
    ("sled", &["store/kv"]),
    ("strsim", &["settings"]),
    ("subtle", &["verify", "admin"]),
    ("tokio_rustls", &["http", "sink/amqp"]),
    ("toml", &["settings"]),
    ("tower", &["http", "admin", "source/webhook"]),
    ("tracing_subscriber", &["logging"]),
    ("unicode_width", &["cli"]),
    ("x509_parser", &["certificate"]),
    ("yaml_rust2", &["settings"]),
];

/// Foreign crates that are as common as the standard library.
const CRATES_ANYWHERE: &[&str] = &[
    "bytes",
    "bytesize",
    "fastrand",
    "futures_util",
    "humantime_serde",
    "jiff",
    "schemars",
    "serde",
    "serde_json",
    "thiserror",
    "tokio",
    "tracing",
    "uuid",
];

/// Rooms that know no clock, no I/O and no runtime, and what would tell of one.
const PURE_ROOMS: &[&str] = &["event", "verify", "decode", "route"];
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
];

/// What may stand at the top, besides dot files and what `.gitignore` names.
const TOP: &[&str] = &[
    "benches",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "config",
    "deploy",
    "docs",
    "examples",
    "rustfmt.toml",
    "src",
    "tests",
];

/// Hosts that a URL in the repository may name, and whatever ends with one of them after a dot.
const PUBLIC_HOSTS: &[&str] = &[
    "127.0.0.1",
    "apache.org",
    "cel.dev",
    "cloudevents.io",
    "crates.io",
    "debian.org",
    "docs.rs",
    "e2b.app",
    "e2b.dev",
    "example",
    "example.com",
    "example.org",
    "github.com",
    "internal",
    "ietf.org",
    "json-schema.org",
    "keepachangelog.com",
    "localhost",
    "nats.io",
    "picocss.com",
    "prometheus.io",
    "rabbitmq.com",
    "rfc-editor.org",
    "rust-lang.org",
    "rustup.rs",
    "semver.org",
    "w3.org",
];

struct File {
    /// Under `src`, with `/`.
    path: String,
    text: String,
}

impl File {
    /// `store/journal.rs` and `store.rs` stand in `store`.
    fn room(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    fn is_at(&self, place: &str) -> bool {
        self.path.strip_prefix(place).is_some_and(|rest| rest.starts_with(['/', '.']))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The first names in each line of `.gitignore`, as far as they stand at the top.
pub(crate) fn ignored() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(".gitignore")).expect(".gitignore");
    text.lines().map(|line| line.trim_matches('/').to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Every file below `folder`, sorted; never an empty list.
pub(crate) fn walk(folder: &Path, skip: &BTreeSet<String>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let entry = entry.expect("a readable entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.file_type().expect("a file type") {
                kind if kind.is_dir() && name != ".git" && !skip.contains(&name) => folders.push(entry.path()),
                kind if kind.is_file() && name != ".git" => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "no files below {}", folder.display());
    files
}

fn sources() -> Vec<File> {
    let src = root().join("src");
    let files: Vec<File> = walk(&src, &BTreeSet::new())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| File {
            path: path.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/"),
            text: std::fs::read_to_string(&path).expect("a source file"),
        })
        .collect();
    assert!(files.iter().any(|file| file.path == "lib.rs") && files.len() > 10, "the sources were not found");
    files
}

/// The levels of the rooms, lowest 0, as the crate doc of `lib.rs` draws them.
fn levels(lib: &str) -> BTreeMap<String, usize> {
    let doc: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let start = doc.iter().position(|line| *line == "# Rooms").expect("the crate doc has a section `# Rooms`");
    let drawing = doc[start..].iter().skip_while(|line| **line != "```text").skip(1).take_while(|line| **line != "```");
    let drawing = drawing.copied().collect::<Vec<_>>().join(" ");
    let levels = drawing.split('←').enumerate();
    let rooms: BTreeMap<String, usize> =
        levels.flat_map(|(level, rooms)| rooms.split_whitespace().map(move |room| (room.to_owned(), level))).collect();
    assert!(rooms.len() > 10, "the order of the rooms was not found");
    rooms
}

/// Upward and sideways imports, and rooms that the crate doc does not show.
fn import_violations(files: &[File], levels: &BTreeMap<String, usize>) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.path != "lib.rs") {
        let Some(&own) = levels.get(file.room()) else {
            violations.push(format!("{}: the crate doc shows no room `{}`", file.path, file.room()));
            continue;
        };
        let code = code_only(&file.text);
        let mut imported = names_after(&code, "crate::");
        // The binary stands above its library, the command line included.
        let own = if file.path == "main.rs" {
            imported.extend(names_after(&code, "e2b_relay::"));
            own + 1
        } else {
            own
        };
        // From `a.rs` and `a/mod.rs` the crate's root is `super`.
        if !file.path.contains('/') || (file.path.ends_with("/mod.rs") && file.path.matches('/').count() == 1) {
            imported.extend(
                names_after(&code, "super::")
                    .into_iter()
                    .filter(|name| levels.contains_key(name) && !code.contains(&format!("mod {name};"))),
            );
        }
        for room in imported.into_iter().filter(|room| room != file.room()) {
            match levels.get(&room) {
                Some(level) if *level < own => {}
                Some(_) => violations.push(format!("{}: imports `{room}`, which is not below it", file.path)),
                None => violations.push(format!("{}: the crate doc shows no room `{room}`", file.path)),
            }
        }
    }
    violations
}

fn crate_violations(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        let code = code_only(&file.text);
        for (name, places) in ROOMS_OF_CRATES {
            if uses_crate(&code, name) && !places.iter().any(|place| file.is_at(place)) {
                violations.push(format!("{}: uses `{name}`, whose room is {}", file.path, places.join(", ")));
            }
        }
        for sign in IMPURE.iter().filter(|sign| PURE_ROOMS.contains(&file.room()) && code.contains(**sign)) {
            violations.push(format!("{}: `{sign}` in a room that is pure", file.path));
        }
    }
    violations
}

/// Names of the sections `[dependencies]` in `Cargo.toml`, as code spells them.
fn dependencies() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let section = text.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let names: Vec<String> = section
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.replace('-', "_"))
        .collect();
    assert!(names.len() > 20, "the dependencies were not found");
    names
}

fn host_of(url: &str) -> &str {
    let authority = url.split(|letter: char| "/?#\"'`<>() \\,;".contains(letter)).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.split(':').next().unwrap_or_default().trim_end_matches(['.', ']', '*'])
}

fn is_public(host: &str) -> bool {
    // A name without a dot, or with a placeholder in it, is nobody's host.
    let placeholder =
        !host.contains('.') || host.contains(|letter: char| !(letter.is_alphanumeric() || ".-".contains(letter)));
    placeholder
        || PUBLIC_HOSTS
            .iter()
            .any(|public| host == *public || host.strip_suffix(public).is_some_and(|sub| sub.ends_with('.')))
}

/// Paths of one machine, and hosts that only it knows.
fn machine_violations(name: &str, text: &str) -> Vec<String> {
    // Written in pieces, so that this file does not hold them.
    let paths = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut violations = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        violations.extend(paths.iter().filter(|path| line.contains(**path)).map(|path| format!("{place}: {path}")));
        let urls = ["http://", "https://"].iter().flat_map(|scheme| line.split(scheme).skip(1));
        violations
            .extend(urls.map(host_of).filter(|host| !is_public(host)).map(|host| format!("{place}: host {host}")));
    }
    violations
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn rooms_import_downwards_only() {
    let files = sources();
    let lib = files.iter().find(|file| file.path == "lib.rs").expect("lib.rs");
    assert_none(&import_violations(&files, &levels(&lib.text)));
}

#[test]
fn each_foreign_crate_has_its_rooms() {
    assert_none(&crate_violations(&sources()));
}

#[test]
fn every_dependency_has_a_room_or_is_common() {
    let homeless: Vec<String> = dependencies()
        .into_iter()
        .filter(|name| !CRATES_ANYWHERE.contains(&name.as_str()))
        .filter(|name| !ROOMS_OF_CRATES.iter().any(|(housed, _)| housed == name))
        .map(|name| format!("Cargo.toml: `{name}` has no room in tests/tidy.rs"))
        .collect();
    assert_none(&homeless);
}

/// Files of the store that have a mutex which no debug build looks after, and what is under it.
const UNGUARDED: &[(&str, &str)] = &[
    ("store/files/guarded.rs", "is what looks after the others"),
    ("store/write/inbox.rs", "waits for a condition variable; memory alone"),
    ("store/dedupe/day_index.rs", "the database's handle"),
    ("store/write/committer/tests.rs", "tests"),
    ("store/files/disk/failing.rs", "tests"),
    ("store/dead_letters/tests.rs", "tests"),
];

#[test]
fn locks_of_the_store_are_not_held_over_the_disk() {
    let unguarded: Vec<String> = sources()
        .iter()
        .filter(|file| file.room() == "store" && !UNGUARDED.iter().any(|(path, _)| *path == file.path))
        .filter(|file| code_only(&file.text).contains("Mutex"))
        .map(|file| format!("{}: a Mutex, where a Guarded sees to it that nobody holds it over the disk", file.path))
        .collect();
    assert_none(&unguarded);
}

#[test]
fn the_breakages_of_mutants_still_apply() {
    let output = std::process::Command::new(root().join("tests/mutants")).arg("--apply").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn files_are_short() {
    let long: Vec<String> = sources()
        .iter()
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(file, lines)| format!("{}: {lines} lines, over {MAX_LINES}", file.path))
        .collect();
    assert_none(&long);
}

#[test]
fn the_top_holds_what_belongs_there() {
    let ignored = ignored();
    let entries = std::fs::read_dir(root()).expect("the repository");
    let strange: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !ignored.contains(name) && !TOP.contains(&name.as_str()))
        .map(|name| format!("{name} does not belong at the top"))
        .collect();
    assert_none(&strange);
    assert!(root().join("src").is_dir() && root().join("Cargo.toml").is_file());
}

#[test]
fn nothing_of_one_machine_is_in_the_repository() {
    let mut violations = Vec::new();
    let mut read = 0;
    for path in walk(&root(), &ignored()) {
        // What is not text has no paths that a person wrote.
        let Ok(text) = String::from_utf8(std::fs::read(&path).expect("a readable file")) else { continue };
        read += 1;
        let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        violations.extend(machine_violations(&name, &text));
    }
    assert!(read > 20, "only {read} files were read");
    assert_none(&violations);
}

mod can_fail {
    use super::*;

    fn file(path: &str, text: &str) -> Vec<File> {
        vec![File { path: path.to_owned(), text: text.to_owned() }]
    }

    const LIB: &str = "//! # Rooms\n//! ```text\n//! a b c d e f\n//!   ← g ← h i j k\n//!   ← cli main\n//! ```\n";

    #[test]
    fn upward_and_sideways_imports_are_seen() {
        let levels = levels(LIB);
        assert_eq!((levels["a"], levels["g"], levels["k"], levels["main"]), (0, 1, 2, 3));
        for (path, text) in [
            ("a.rs", "use crate::g::X;"),
            ("a/deep/x.rs", "use crate::{\n    b::Y,\n};"),
            ("h/mod.rs", "fn f() { crate::i::x() }"),
            ("h/mod.rs", "use crate::{a::{X, Y}, i};"),
            ("g.rs", "use super::h;"),
            ("a.rs", "use crate::unknown;"),
            ("z.rs", "struct X;"),
            ("h/x.rs", "const S: &str = \"//\"; use crate::k;"),
        ] {
            assert_eq!(import_violations(&file(path, text), &levels).len(), 1, "{path}: {text}");
        }
        for (path, text) in [
            ("g.rs", "use crate::{a, b::{c, d}};\nuse crate::g::own;"),
            (
                "a.rs",
                "// use crate::g\n/* crate::h */ const S: &str = \"crate::i\"; const R: &str = r#\"\"crate::i\"#;",
            ),
            ("main.rs", "use e2b_relay::cli;"),
            ("g/x.rs", "use super::h;"),
            ("a.rs", "fn f<'a>(x: &'a str, c: char) { c == '\"' || c == '\\''; } // crate::g"),
        ] {
            assert_none(&import_violations(&file(path, text), &levels));
        }
    }

    #[test]
    fn a_crate_outside_its_room_is_seen() {
        for (path, text) in [
            ("route/mod.rs", "use sled::Db;"),
            ("store/state.rs", "fn f(db: &sled::Db) {}"),
            ("sink/nats.rs", "fn f() { rdkafka::x(); }"),
            ("store/mod.rs", "use sha2 as digest;"),
            ("cli/mod.rs", "use config::Config;"),
            ("cli/mod.rs", "let x: ::config::Config;"),
            ("sink/natsamqp.rs", "async_nats::connect();"),
            ("route/x.rs", "let now = jiff::Timestamp::now();"),
        ] {
            assert_eq!(crate_violations(&file(path, text)).len(), 1, "{path}: {text}");
        }
        for (path, text) in [
            ("store/kv/x.rs", "use sled::Db;"),
            ("sink/nats/mod.rs", "use async_nats::Client;"),
            ("cli/mod.rs", "mod config;\nfn f() { config::run(); }"),
            ("cli/mod.rs", "use crate::settings::config::X; // sled::Db"),
            ("cli/mod.rs", "my_config::x();"),
        ] {
            assert_none(&crate_violations(&file(path, text)));
        }
    }

    #[test]
    fn what_only_one_machine_knows_is_seen() {
        for text in [
            concat!("cd /wo", "rk/main"),
            concat!("see htt", "ps://registry.corp.net/x"),
            concat!("htt", "p://user:pw@10.1.2.3:8080/"),
            concat!("\"htt", "ps://evilgithub.com\""),
        ] {
            assert_eq!(machine_violations("x", text).len(), 1, "{text}");
        }
        for text in ["https://docs.rs/cel", "http://{public}/", "https://YOUR-ADDRESS/x", "https://relay.example.com/"]
        {
            assert_none(&machine_violations("x", text));
        }
    }
}
