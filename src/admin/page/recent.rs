//! The last events as they come.

use super::model::{Cell, Row};
use super::words;
use crate::admin::journal::{Journal, Query};
use crate::decode;
use crate::event::Stored;
use crate::store::{Limits, Reader};
use std::collections::VecDeque;
use std::io;

/// Events that are shown.
pub(super) const SHOWN: usize = 20;
/// What is read at once.
const AT_ONCE: Limits = Limits { events: 512, bytes: 4 << 20 };

/// The newest, kept up with the journal while anybody looks.
#[derive(Default)]
pub(super) struct Recent {
    reader: Option<Reader>,
    /// Up to this sequence it was read.
    after: u64,
    /// The newest last.
    events: VecDeque<Stored>,
}

impl Recent {
    /// Nobody looks: nothing is kept.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Reads on; where nothing is kept yet, from the end of the journal.
    pub(super) async fn read_on(&mut self, journal: &Journal) -> io::Result<()> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => {
                self.events = newest(journal).await?.into_iter().rev().collect();
                self.after = self.events.back().map_or(0, |stored| stored.sequence);
                journal.events()
            }
        };
        let (mut after, mut events) = (self.after, std::mem::take(&mut self.events));
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = reader;
            loop {
                let batch = reader.read_after(after, AT_ONCE)?;
                after = batch.through;
                if batch.records.is_empty() {
                    return Ok::<_, io::Error>((reader, after, events));
                }
                events.extend(batch.into_events());
                events.drain(..events.len().saturating_sub(SHOWN));
            }
        });
        let (reader, after, events) = read.await.map_err(io::Error::other)??;
        (self.reader, self.after, self.events) = (Some(reader), after, events);
        Ok(())
    }

    /// The newest first.
    pub(super) fn rows(&self, longest: usize) -> Vec<Row> {
        rows(self.events.iter().rev(), longest)
    }
}

/// The newest first, read from the journal for one page.
pub(super) async fn newest(journal: &Journal) -> io::Result<Vec<Stored>> {
    Ok(journal.newest_first(Query::default(), None, SHOWN).await?.events)
}

pub(super) fn rows<'s>(events: impl Iterator<Item = &'s Stored>, longest: usize) -> Vec<Row> {
    let row = |stored: &Stored| {
        let Stored { sequence, arrival, event } = stored;
        let record = decode::stored(event).ok();
        let template = record.and_then(|record| record.text("sandbox_template_id")).unwrap_or_default();
        Row::new(
            sequence.to_string(),
            [
                Cell::own(words::time(arrival.received_at)),
                Cell::foreign(&event.kind, longest),
                Cell::foreign(&event.sandbox_id, longest),
                Cell::foreign(&template, longest),
                Cell::foreign(&arrival.source, longest),
                Cell::own(arrival.origin.as_str()),
                Cell::foreign(&event.id, longest),
            ],
        )
    };
    events.map(row).collect()
}
