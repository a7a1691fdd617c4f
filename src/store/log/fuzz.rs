//! Frames, groups and ids under random input: what is written is read, and damage is noticed or changes nothing.

use super::frame::{self, Frame};
use super::ids::{self, Id};
use super::segment::{Cursor, ENVELOPE, Envelope, FORMAT, HEADER, Header, Step, seal_group};
use crate::store::files::disk::RealDisk;
use crate::store::files::frames;
use crate::store::fuzzing::driver::{Outcome, Target};
use crate::store::fuzzing::{Memory, damage, drawn};
use bytes::Bytes;
use fastrand::Rng;
use std::path::Path;

#[test]
fn frames_are_read_as_they_were_written_or_not_at_all() {
    Target { name: "frames", rounds: 2_000, minutes: 10, seeds: Vec::new() }.fuzz(frames);
}

#[test]
fn ids_are_read_as_they_were_written_or_not_at_all() {
    // In memory where that can be had: nothing here is about syncing.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let target = Target { name: "ids", rounds: 2_000, minutes: 1, seeds: Vec::new() };
    target.fuzz(|input, random| ids(folder.path(), input, random));
}

fn put(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    match frame {
        Frame::Event(event) => frame::put_event(&mut out, event),
        Frame::Control(control) => frame::put_control(&mut out, control),
    }
    out
}

/// An input is a frame.
fn frames(input: &[u8], random: &mut Rng) -> Outcome {
    let mut rest = Bytes::copy_from_slice(input);
    if let Some(frame) = frame::take(&mut rest) {
        assert_eq!(put(&frame), input[..input.len() - rest.len()], "as it was written");
    }
    // Its checksum would keep everything else from being read.
    let mut fitted = Vec::new();
    frames::put(&mut fitted, input.get(8..).unwrap_or(input));
    let mut fitted = Bytes::from(fitted);
    let read = frame::take(&mut fitted);
    let own = Frame::Event(Box::new(drawn(input, random.u64(..), random)));
    let frames = [read.clone().unwrap_or_else(|| own.clone()), own];
    for frame in &frames {
        let written = put(frame);
        let mut bytes = Bytes::from([written.as_slice(), b"what follows"].concat());
        assert_eq!(frame::take(&mut bytes).as_ref(), Some(frame));
        assert_eq!(bytes, &b"what follows"[..]);
        let mut damaged = written.clone();
        match random.u8(..4) {
            0 => damaged.truncate(random.usize(..written.len())),
            _ => damage(&mut damaged, random),
        }
        let read = frame::take(&mut Bytes::from(damaged));
        assert!(read.is_none() || read.as_ref() == Some(frame), "{read:?}, where {frame:?} was written");
    }
    groups(&frames, random);
    match read {
        Some(Frame::Event(event)) => {
            let arrival = &event.stored.arrival;
            let ids = (arrival.webhook_id.is_some(), arrival.delivery_id.is_some());
            Ok(format!("{:?} {ids:?} {}", arrival.origin, event.replaces.is_some()))
        }
        Some(Frame::Control(control)) => Ok(format!("{control:?}").chars().take(40).collect()),
        None => Err(format!("{:?}", input.get(8))),
    }
}

/// A segment of groups of these frames: each is read as it was written, and damage costs the group that it hits.
fn groups(frames: &[Frame], random: &mut Rng) {
    let header = Header {
        format: FORMAT,
        log: 1,
        number: 3,
        generation: random.u64(..),
        first_sequence: 1,
        ..Header::default()
    };
    let (mut file, mut written) = (header.encode(), Vec::new());
    let mut events_before = 0;
    for number in 0..random.u64(1..5) {
        let mut group = vec![0; ENVELOPE];
        let chosen: Vec<&Frame> = (0..random.usize(1..4)).map(|_| &frames[random.usize(..frames.len())]).collect();
        chosen.iter().for_each(|frame| group.extend(put(frame)));
        let content = group[ENVELOPE..].to_vec();
        let count = chosen.iter().filter(|frame| matches!(frame, Frame::Event(_))).count() as u32;
        let generation = header.generation;
        seal_group(&mut group, &Envelope { generation, number, first_sequence: 1, events_before, count });
        let start = file.len();
        file.extend(group);
        written.push((number, content, events_before, start..file.len()));
        events_before += u64::from(count);
    }
    let whole: Vec<_> =
        written.iter().map(|(number, content, before, _)| (*number, content.clone(), *before)).collect();
    assert_eq!(read_groups(&file, &header), whole);

    let mut damaged = file.clone();
    damage(&mut damaged[HEADER as usize..], random);
    let hit = |range: &std::ops::Range<usize>| file[range.clone()] != damaged[range.clone()];
    let read = read_groups(&damaged, &header);
    for (place, group) in whole.iter().enumerate() {
        assert!(read.contains(group) || hit(&written[place].3), "group {place} was not damaged");
    }
    assert!(read.iter().all(|group| whole.contains(group)), "{read:?}, where {whole:?} was written");

    let length = random.usize(HEADER as usize..=file.len());
    let kept = written.iter().take_while(|(.., range)| range.end <= length).count();
    assert_eq!(read_groups(&file[..length], &header).get(..kept), Some(&whole[..kept]), "cut at {length}");
    let mut head = file[..HEADER as usize].to_vec();
    damage(&mut head, random);
    let read = Header::read(&*Memory::of(&head)).unwrap();
    assert!(read.as_ref().is_none_or(|read| *read == header), "{read:?}");
}

type Group = (u64, Vec<u8>, u64);

fn read_groups(file: &[u8], header: &Header) -> Vec<Group> {
    let limit = file.len() as u64;
    let mut cursor = Cursor::new(Memory::of(file), header);
    let mut groups = Vec::new();
    loop {
        match cursor.step(limit).unwrap() {
            Step::Group(group) => groups.push((group.number, group.frames.to_vec(), group.events_before)),
            Step::Bad if cursor.resync(limit).unwrap().is_some() => {}
            Step::Bad | Step::End => return groups,
        }
    }
}

/// An input is a file of ids.
fn ids(folder: &Path, input: &[u8], random: &mut Rng) -> Outcome {
    let (disk, path) = (RealDisk, folder.join(ids::file_name(5)));
    std::fs::write(&path, with_checksums(input)).unwrap();
    let summary = ids::summary(&disk, &path).unwrap();
    let read = ids::read(&disk, &path).unwrap();
    assert!(read.is_none() || summary.is_some());

    // Those that the file would hold, whatever is at its head.
    let first = random.u64(..u64::MAX / 2);
    let mut ids: Vec<Id> = input.as_chunks::<24>().0.iter().map(|entry| id(entry, first)).collect();
    ids.truncate(random.usize(..=ids.len()));
    ids::write(&disk, folder, 5, first, &ids).unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!(file.len() as u64, ids::length(ids.len()));
    assert_eq!(ids::read(&disk, &path).unwrap().as_ref(), Some(&ids));
    let own = ids::summary(&disk, &path).unwrap().expect("it is sound");
    assert_eq!((own.number, own.first_sequence, own.count), (5, first, ids.len() as u64));
    let days = ids.iter().map(|id| id.day).min().zip(ids.iter().map(|id| id.day).max());
    assert_eq!(own.days, days);

    let mut damaged = file.clone();
    match random.u8(..4) {
        0 => damaged.truncate(random.usize(..file.len())),
        1 => damaged.extend(std::iter::repeat_n(0, random.usize(1..50))),
        _ => damage(&mut damaged, random),
    }
    std::fs::write(&path, &damaged).unwrap();
    let again = ids::read(&disk, &path).unwrap();
    assert!(again.as_ref().is_none_or(|again| *again == ids), "{again:?}, where {ids:?} was written");
    let again = ids::summary(&disk, &path).unwrap();
    assert!(again.is_none_or(|again| again == own), "{again:?}, where {own:?} was written");
    match (summary, read) {
        (Some(summary), Some(read)) => Ok(format!("{} {}", read.len().min(32), summary.days.is_some())),
        (summary, _) => Err(format!("{}", summary.is_some())),
    }
}

fn id(entry: &[u8; 24], first: u64) -> Id {
    let (sequence, rest) = entry.split_first_chunk::<4>().unwrap();
    let (day, hash) = rest.split_first_chunk::<4>().unwrap();
    Id {
        sequence: first + u64::from(u32::from_le_bytes(*sequence)),
        day: i32::from_le_bytes(*day),
        hash: u128::from_le_bytes(hash.try_into().unwrap()),
    }
}

/// The file with both of its checksums right, which would keep everything else from being read.
fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut file = input.to_vec();
    if file.len() >= 48 {
        let entries = crc32c::crc32c(&file[48..]).to_le_bytes();
        file[40..44].copy_from_slice(&entries);
        let head = crc32c::crc32c(&file[..44]).to_le_bytes();
        file[44..48].copy_from_slice(&head);
    }
    file
}
