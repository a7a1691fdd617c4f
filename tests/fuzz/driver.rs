//! Random input for one parser or codec: first its kept corpus, then what comes of it by mutation.
//!
//! Why none of the fuzzers: what guides them by coverage needs a nightly compiler or a tool beside cargo. The one for
//! stable Rust, bolero, replays a corpus under `cargo test` and then draws its bytes from a generator, without looking
//! at the corpus; and a parser of JSON or YAML refuses such bytes at the first one. So here inputs are mutations of
//! those that are kept, and one that makes a target say what it has not said yet is mutated on: a target's own words
//! stand in for coverage.
//!
//! A target is a function that panics where something is wrong, and else says what became of the input: `Ok` where it
//! was accepted, `Err` where it was refused, each with a few words. The input decides what the target draws, so that
//! one that failed fails again from its file.

use super::seed;
use fastrand::Rng;
use std::collections::{BTreeSet, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What mutation makes longer finds no more, and slows everything down.
const LONGEST: usize = 16 << 10;
/// Inputs that are mutated on, beside the corpus.
const MOST_KEPT: usize = 4_096;
/// Most mutations of one input.
const MUTATIONS: usize = 6;

/// What parsers stumble over, in any language.
const WORDS: &[&str] = &[
    "\"",
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    ";",
    "=",
    "&",
    "#",
    "%",
    "*",
    ">",
    "/",
    ".",
    "..",
    "-",
    "+",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\n\n",
    "\0",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{feff}",
    "\u{202e}",
    "é",
    "日本",
    "😀",
    "null",
    "true",
    "false",
    "{}",
    "[]",
    "\"\"",
    "\"a\":",
    "0",
    "-0",
    "-1",
    "1e999",
    "1.7976931348623159e308",
    "1e-999",
    "255",
    "256",
    "65536",
    "2147483648",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "{{",
    "}}",
    "{%",
    "%00",
    "%zz",
    "${",
    "$",
    "&a",
    "*a",
    "<<",
    "---",
    "~",
    "|",
];

/// What is fuzzed, and for how long.
pub(crate) struct Target {
    /// Its corpus is in the folder of that name.
    pub(crate) name: &'static str,
    /// Mutations in every run, beside the corpus.
    pub(crate) rounds: usize,
    /// Minutes in the soak.
    pub(crate) minutes: u64,
    /// Further inputs, which are made or kept elsewhere.
    pub(crate) seeds: Vec<Vec<u8>>,
}

/// What became of an input.
pub(crate) type Outcome = Result<String, String>;

/// Files of the repository that are of use as seeds, by their paths.
#[allow(dead_code, reason = "the store's own targets need none")]
pub(crate) fn files(paths: &[&str]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| std::fs::read(repository().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))).collect()
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

impl Target {
    /// Looks at the corpus, and then at mutations of it.
    pub(crate) fn fuzz(self, check: impl Fn(&[u8], &mut Rng) -> Outcome) {
        let Self { name, rounds, minutes, seeds } = self;
        let folder = repository().join("tests/fuzz/corpus").join(name);
        let mut pool: Vec<Vec<u8>> = corpus(&folder).into_iter().chain(seeds).collect();
        let kept = pool.len();
        let words = words(&pool);
        let mut random = seed::random(&format!("fuzz {name}"));
        let (mut seen, mut accepted, mut executions) = (HashSet::new(), 0_usize, 0_usize);
        let begun = Instant::now();
        // The soak goes on for a time; a run by itself counts, so that it is the same on any machine.
        let soak = seed::soak().then(|| Duration::from_secs(60 * minutes));
        loop {
            let is_over = soak.map_or(executions >= kept + rounds, |soak| begun.elapsed() >= soak);
            let input = match pool.get(executions).filter(|_| executions < kept) {
                Some(input) => input.clone(),
                None if is_over => break,
                None => mutated(&pool, kept, &words, &mut random),
            };
            let outcome = run(name, &input, &check);
            executions += 1;
            accepted += usize::from(outcome.is_ok());
            if seen.insert(outcome) && executions > kept && pool.len() < kept + MOST_KEPT {
                pool.push(input);
            }
        }
        let refused = executions - accepted;
        let per_second = executions as f64 / begun.elapsed().as_secs_f64();
        println!(
            "fuzz {name}: {executions} executions, {per_second:.0}/s, {accepted} accepted, {refused} refused, {} outcomes",
            seen.len()
        );
        assert!(
            accepted > 0 && refused > 0,
            "{name}: {accepted} accepted, {refused} refused: one of both is not tested"
        );
    }
}

/// The kept inputs, in the order of their names.
fn corpus(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn run(name: &str, input: &[u8], check: &impl Fn(&[u8], &mut Rng) -> Outcome) -> Outcome {
    let hash = fnv(input);
    catch_unwind(AssertUnwindSafe(|| check(input, &mut Rng::with_seed(hash)))).unwrap_or_else(|_| {
        let path = std::env::temp_dir().join(format!("e2b-relay-fuzz-{name}-{hash:016x}"));
        let kept = match std::fs::write(&path, input) {
            Ok(()) => format!("it is in {}", path.display()),
            Err(error) => format!("it could not be written to {}: {error}", path.display()),
        };
        panic!(
            "{name}: the panic above is of this input of {} bytes; {kept}; put it into tests/fuzz/corpus/{name}\n{}",
            input.len(),
            input.escape_ascii()
        );
    })
}

/// FNV-1a: the same whatever compiles it.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The words of the corpus, beside [`WORDS`].
fn words(pool: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let own = pool.iter().flat_map(|input| input.split(|byte| !is_of_word(*byte)));
    let own: BTreeSet<&[u8]> = own.filter(|word| (2..=40).contains(&word.len())).take(20_000).collect();
    WORDS.iter().map(|word| word.as_bytes()).chain(own).map(<[u8]>::to_vec).collect()
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || byte >= 0x80
}

/// Half of them of what is kept, and half of what has come up since.
fn mutated(pool: &[Vec<u8>], kept: usize, words: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let any = |random: &mut Rng| {
        let last = if random.bool() { kept } else { pool.len() };
        pool[random.usize(..last)].clone()
    };
    let mut input = any(random);
    let longest = input.len().max(LONGEST);
    for _ in 0..=random.usize(..MUTATIONS).min(random.usize(..MUTATIONS)) {
        let (start, end) = range(&input, random);
        match random.u8(..12) {
            0 if !input.is_empty() => input[start.min(end.max(1) - 1)] ^= 1 << random.u8(..8),
            1 if end > start => input[start] = random.u8(..),
            2 => drop(input.drain(start..end)),
            3 => {
                let (copy, at) = (input[start..end].to_vec(), random.usize(..=input.len()));
                drop(input.splice(at..at, copy));
            }
            4 => {
                let bytes: Vec<u8> = (0..random.usize(1..6)).map(|_| random.u8(..)).collect();
                drop(input.splice(start..start, bytes));
            }
            5 => {
                let other = any(random);
                let (from, to) = range(&other, random);
                drop(input.splice(start..end, other[from..to].to_vec()));
            }
            6 => {
                let other = any(random);
                input.truncate(start);
                input.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
            7 => {
                let copies = input[start..end].repeat(random.usize(1..120));
                drop(input.splice(start..start, copies.into_iter().take(LONGEST)));
            }
            8 if random.u8(..8) == 0 => input.truncate(start),
            9 => drop(input.splice(start..start, words[random.usize(..words.len())].clone())),
            // One word in another's place, which keeps what is around it.
            _ => {
                let start = (start..input.len()).find(|at| is_of_word(input[*at])).unwrap_or(start);
                let start = (0..start).rev().take_while(|at| is_of_word(input[*at])).last().unwrap_or(start);
                let end = (start..input.len()).find(|at| !is_of_word(input[*at])).unwrap_or(input.len());
                drop(input.splice(start..end, words[random.usize(..words.len())].clone()));
            }
        }
        input.truncate(longest);
    }
    input
}

/// A range of the input, mostly a short one.
fn range(input: &[u8], random: &mut Rng) -> (usize, usize) {
    let start = random.usize(..=input.len());
    let longest = input.len() - start;
    let length = if random.bool() { random.usize(..=longest.min(8)) } else { random.usize(..=longest.min(200)) };
    (start, start + length)
}
