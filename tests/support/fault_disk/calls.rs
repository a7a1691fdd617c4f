//! The calls themselves, as the store makes them.

use super::{Change, Content, Fault, Inode, NameChange, Node, Plan, State, World, error, unless_cut};
use e2b_relay::store::{Disk, File, Open, Space};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) struct FaultDisk {
    pub(super) world: World,
    pub(super) life: u64,
}

impl Disk for FaultDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut state = self.world.state();
        let cut = state.simple(self.life, how != Open::Existing)?;
        let inode = match (state.names.get(path).copied(), how) {
            (Some(Node::File(inode)), Open::Existing | Open::Either) => inode,
            (Some(_), _) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Open::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => {
                let inode = state.next_inode;
                state.next_inode += 1;
                state.files.insert(inode, Content::default());
                state.change(NameChange::Link(path.into(), Node::File(inode)));
                inode
            }
        };
        unless_cut(cut)?;
        Ok(Arc::new(FaultFile { world: self.world.clone(), life: self.life, inode, path: path.into() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.world.state();
        let cut = state.simple(self.life, true)?;
        let node = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change(NameChange::Rename(from.into(), to.into(), node));
        unless_cut(cut)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.world.state();
        let cut = state.simple(self.life, false)?;
        state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        state.change(NameChange::Unlink(path.into()));
        state.full = false;
        unless_cut(cut)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.world.state();
        let cut = state.simple(self.life, true)?;
        let node = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change(NameChange::Link(to.into(), node));
        unless_cut(cut)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.world.state();
        let cut = state.simple(self.life, false)?;
        let below: Vec<_> = state.names.keys().rev().filter(|name| name.starts_with(path)).cloned().collect();
        let missing = below.is_empty();
        for name in below {
            state.change(NameChange::Unlink(name));
        }
        // What sled has below it is real.
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound || missing => return Err(error),
            _ => {}
        }
        unless_cut(cut)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.world.state();
        let cut = state.simple(self.life, true)?;
        // sled's files and the lock are in the real folder of that name.
        std::fs::create_dir_all(path)?;
        let mut folders: Vec<_> = path.ancestors().take_while(|folder| *folder != self.world.root).collect();
        folders.reverse();
        for folder in folders {
            if !state.names.contains_key(folder) {
                state.change(NameChange::Link(folder.into(), Node::Folder));
            }
        }
        unless_cut(cut)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.world.state();
        unless_cut(state.simple(self.life, true)?)?;
        if path != self.world.root && state.names.get(path) != Some(&Node::Folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let state = &mut *state;
        for change in state.unsynced.extract_if(.., |change| change.folder() == Some(path)) {
            change.apply(&mut state.names_on_disk);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.world.state();
        unless_cut(state.simple(self.life, false)?)?;
        let in_folder = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
        Ok(in_folder
            .filter_map(|(name, node)| match node {
                Node::Folder => None,
                Node::File(inode) => {
                    let name = name.file_name().unwrap().to_str().unwrap().to_owned();
                    Some((name, state.files[inode].cache.len() as u64))
                }
            })
            .collect())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        unless_cut(self.world.state().simple(self.life, false)?)?;
        Ok(Space { free: self.world.state().free, total: 64 << 20 })
    }
}

struct FaultFile {
    world: World,
    life: u64,
    inode: Inode,
    /// Under which it was opened.
    path: PathBuf,
}

impl File for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.world.state();
        unless_cut(state.simple(self.life, false)?)?;
        let cache = &state.content(self.inode).cache;
        let rest = cache.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.world.state();
        let due = state.due(Fault::CutInWrite);
        let fault = state.enter(self.life, true)?.or(due.then_some(Fault::Cut));
        state.cut |= fault == Some(Fault::Cut);
        let written = match fault {
            None | Some(Fault::Cut) => bytes.len(),
            Some(_) => state.rng.usize(0..=bytes.len()),
        };
        state.alter(self.inode, Change::Write(offset, bytes[..written].to_vec()));
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.world.syncs.pass(&self.path);
        let mut guard = self.world.state();
        let due = guard.due(Fault::LostSync);
        let fault = guard.enter(self.life, true)?.or(due.then_some(Fault::LostSync));
        let State { rng, files, plan, .. } = &mut *guard;
        let Content { disk, dirty, .. } = files.entry(self.inode).or_default();
        match fault {
            None => dirty.drain(..).for_each(|change| change.apply(disk)),
            Some(Fault::Cut) => {}
            Some(Fault::LostSync) => {
                dirty.clear();
                *plan = Some(Plan { at: 0, calls: u64::MAX, fault: Fault::Io });
            }
            // Each is on disk, or still to be written, or given up: then it is in the cache and will never be written.
            Some(_) => dirty.retain(|change| match rng.u8(0..3) {
                0 => {
                    change.apply(disk);
                    false
                }
                1 => true,
                _ => false,
            }),
        }
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn sync_and_reread(&self) -> io::Result<()> {
        self.sync_data()?;
        let mut state = self.world.state();
        let content = state.content(self.inode);
        content.cache.clone_from(&content.disk);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let mut state = self.world.state();
        unless_cut(state.simple(self.life, false)?)?;
        Ok(state.content(self.inode).cache.len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.world.state();
        let cut = state.simple(self.life, true)?;
        state.alter(self.inode, Change::Length(length));
        unless_cut(cut)
    }
}
