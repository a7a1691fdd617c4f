//! From format 1, of version 0.1.0, to format 2.
//!
//! Positions move from sled into files of their own; segments stay as they are, and the next group begins a new one; the
//! indexes of ids are made anew, since they know the sequences now.

use super::{Step, Work, copy_folder};
use crate::store::files::folders;
use crate::store::kv::{OnSled, judge};
use crate::store::log::record::End;
use crate::store::sinks::positions::{self, Content, Progress};
use crate::store::state::{self, SINK};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

pub(super) const STEP: Step = Step { from: 1, rewrites: &[], run };

fn run(work: &Work<'_>) -> io::Result<()> {
    folders::remove(&work.store.join("seen"))?;
    let folder = work.store.join("positions");
    folders::remove(&folder)?;
    let sinks = sinks(&work.copy.join("meta"), &work.store.join("meta-of-format-1"))?;
    // Counted when the logs are open.
    positions::create(work.disk, &folder, &Content { end: End::default(), counted: false, sinks })?;
    work.disk.sync_dir(work.store)
}

/// sled writes to whatever it opens: so a copy of the copy is read.
fn sinks(meta: &Path, scratch: &Path) -> io::Result<BTreeMap<String, Progress>> {
    folders::remove(scratch)?;
    if !meta.exists() {
        return Ok(BTreeMap::new());
    }
    copy_folder(meta, scratch)?;
    let loaded = judge(&OnSled, scratch, || state::load(&OnSled, scratch));
    let sinks = match loaded {
        Ok((db, values)) => {
            drop(db);
            let sink = |(key, value): (&String, &Vec<u8>)| {
                Some((key.strip_prefix(SINK)?.to_owned(), serde_json::from_slice(value).ok()?))
            };
            values.iter().filter_map(sink).collect()
        }
        // The next start meets the same, and moves it aside.
        Err(bad) if bad.is_corrupt() => {
            tracing::error!(error = %bad, "the positions are corrupt: sinks repeat what they had since their birth");
            BTreeMap::new()
        }
        Err(bad) => return Err(bad.into()),
    };
    folders::remove(scratch)?;
    Ok(sinks)
}
