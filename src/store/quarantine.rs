//! Copies of bodies that were well signed and yet no events, for people to look at. Bounded; the oldest go first.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

/// Most copies that are kept.
const MAX_COUNT: usize = 1_000;
/// Most bytes that they take together.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

pub(super) struct Quarantine {
    dir: PathBuf,
    /// Name and length, oldest first.
    kept: VecDeque<(String, u64)>,
    bytes: u64,
    last_name: i64,
}

impl Quarantine {
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            kept.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
        }
        kept.sort();
        let bytes = kept.iter().map(|(_, length)| length).sum();
        Ok(Self { dir, kept: kept.into(), bytes, last_name: 0 })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps a copy. Not synced: nothing was promised for it.
    pub(super) fn keep(&mut self, source: &str, body: &[u8], now: jiff::Timestamp) -> io::Result<()> {
        // Names rise, so that sorting them is sorting by age.
        self.last_name = now.as_microsecond().max(self.last_name + 1);
        let name = format!("{:020}-{source}.body", self.last_name);
        while self.kept.len() >= MAX_COUNT || (self.bytes + body.len() as u64 > MAX_BYTES && !self.kept.is_empty()) {
            let Some((oldest, length)) = self.kept.pop_front() else { break };
            self.bytes -= length;
            std::fs::remove_file(self.dir.join(oldest))?;
        }
        std::fs::write(self.dir.join(&name), body)?;
        self.bytes += body.len() as u64;
        self.kept.push_back((name, body.len() as u64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let mut quarantine = Quarantine::open(folder.path().into()).unwrap();
        let now = jiff::Timestamp::from_second(1_754_513_976).unwrap();
        for index in 0..MAX_COUNT + 5 {
            quarantine.keep("acme", index.to_string().as_bytes(), now).unwrap();
        }
        quarantine.keep("acme", &vec![b'x'; MAX_BYTES as usize - 10], now).unwrap();
        let reopened = Quarantine::open(folder.path().into()).unwrap();
        assert!(reopened.bytes <= MAX_BYTES, "{}", reopened.bytes);
        assert_eq!(reopened.bytes, quarantine.bytes);
        assert_eq!(reopened.kept, quarantine.kept);
        assert!(reopened.kept.iter().all(|(name, _)| std::fs::exists(folder.path().join(name)).unwrap()));
    }
}
