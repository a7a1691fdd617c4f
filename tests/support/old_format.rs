//! A stand-in for the format before this version's, which makes a step of its own: every byte of the files that the store
//! writes itself is turned over. So nothing can be read before it is migrated, and what is read afterwards was.
#![cfg(test)]

use e2b_relay::store::{Disk, File, Open, Step, Work};
use std::io;
use std::path::Path;
use std::sync::Arc;

const FOLDERS: [&str; 3] = ["journal", "samples", "dead-letters"];

/// From that format to this version's.
pub(crate) const STEPS: &[Step] = &[Step { from: 1, rewrites: &FOLDERS, run: migrate }];

fn migrate(work: &Work<'_>) -> io::Result<()> {
    for folder in FOLDERS {
        let (copy, store) = (work.copy.join(folder), work.store.join(folder));
        work.disk.create_dir_all(&store)?;
        for (name, _) in work.disk.list(&copy)? {
            let bytes = turned(&*work.disk.open(&copy.join(&name), Open::Existing)?)?;
            let half = store.join("migrating");
            write(&work.disk.open(&half, Open::Either)?, &bytes)?;
            work.disk.rename(&half, &store.join(&name))?;
        }
        work.disk.sync_dir(&store)?;
    }
    Ok(())
}

/// Makes a store of this version one of that format.
pub(crate) fn age(disk: &dyn Disk, store: &Path) {
    for folder in FOLDERS.map(|folder| store.join(folder)) {
        for (name, _) in disk.list(&folder).unwrap() {
            if !name.starts_with("spare-") {
                let file = disk.open(&folder.join(name), Open::Existing).unwrap();
                let bytes = turned(&*file).unwrap();
                write(&file, &bytes).unwrap();
            }
        }
        disk.sync_dir(&folder).unwrap();
    }
    renumber(store, 1);
}

/// Has the file `format` say another number.
pub(crate) fn renumber(store: &Path, number: u32) {
    let file = store.join("format");
    let mut format: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    format["format"] = number.into();
    format["version"] = "9.9.9".into();
    format.as_object_mut().unwrap().remove("migrated");
    std::fs::write(file, format.to_string()).unwrap();
}

fn turned(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.length()? as usize];
    let read = file.read_at(&mut bytes, 0)?;
    assert_eq!(read, bytes.len());
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    Ok(bytes)
}

fn write(file: &Arc<dyn File>, bytes: &[u8]) -> io::Result<()> {
    file.set_len(bytes.len() as u64)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}
