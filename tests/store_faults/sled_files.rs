//! What becomes of sled's files at a power cut: they are real, and nobody knows what of them was on disk.

use fastrand::Rng;
use std::path::{Path, PathBuf};

/// A copy of the databases as they were before somebody opened them.
pub(crate) fn copy(store: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    for folder in databases(store) {
        copy_folder(&folder, &to.join(folder.strip_prefix(store).unwrap()));
    }
}

/// Each database as it is, or truncated, or with a byte flipped, or gone, or as it was in the copy.
pub(crate) fn harm(store: &Path, copy: &Path, rng: &mut Rng) {
    for folder in databases(store) {
        match rng.u8(0..8) {
            0 => std::fs::remove_dir_all(&folder).unwrap(),
            1 => change(&folder, |bytes| bytes.truncate(rng.usize(0..=bytes.len()))),
            2 => change(&folder, |bytes| {
                let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                let at = rng.usize(0..=written);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.u8(0..8);
                }
            }),
            3 | 4 => {
                std::fs::remove_dir_all(&folder).unwrap();
                let kept = copy.join(folder.strip_prefix(store).unwrap());
                if kept.is_dir() {
                    copy_folder(&kept, &folder);
                }
            }
            _ => {}
        }
    }
}

fn change(folder: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let file = folder.join("db");
    let Ok(mut bytes) = std::fs::read(&file) else { return };
    how(&mut bytes);
    std::fs::write(&file, bytes).unwrap();
}

/// Sorted, so that a seed harms the same ones again.
fn databases(store: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(store.join("seen"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && path.extension().is_none())
        .collect();
    folders.extend(Some(store.join("meta")).filter(|meta| meta.is_dir()));
    folders.sort();
    folders
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
