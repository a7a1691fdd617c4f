//! What happens to a team's sandboxes: an endless, seeded story in which every type occurs within the first six events.
//!
//! It keeps the provider's habits, the awkward ones too: `updated` is frequent, a fork begins with `resumed`, a paused
//! sandbox that is killed says nothing, metadata may be missing, and strangers choose it.

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Sandboxes that live side by side; above it one is killed before another is created.
const MAX_SANDBOXES: usize = 24;

/// The provider's, where none is asked for.
const FIRST_TIMEOUT: SignedDuration = SignedDuration::from_mins(5);

/// One event, before it has a shape.
#[derive(Debug, Clone)]
pub struct Happening {
    /// UUID, the same however often and by whatever road it is told.
    pub id: String,
    /// `sandbox.lifecycle.created` and the like.
    pub kind: String,
    /// By the clock that was handed in.
    pub at: Timestamp,
    /// 21 lower-case letters and digits.
    pub sandbox_id: String,
    /// UUID of the running stretch; a resume begins a new one.
    pub execution_id: String,
    /// 20 lower-case letters and digits.
    pub template_id: String,
    /// UUID.
    pub build_id: String,
    /// UUID.
    pub team_id: String,
    /// What the type has to tell, if anything.
    pub data: Option<EventData>,
}

/// `event_data`; snake_case in every shape.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EventData {
    /// Chosen by whoever starts the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_metadata: Option<BTreeMap<String, String>>,
    /// The new end time; of `updated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_timeout: Option<String>,
    /// Of `paused` and `killed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<Execution>,
    /// Of `killed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_reason: Option<&'static str>,
}

/// A running stretch that ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Execution {
    /// RFC 3339.
    pub started_at: String,
    /// Virtual CPUs.
    pub vcpu_count: u32,
    /// MiB.
    pub memory_mb: u32,
    /// Milliseconds.
    pub execution_time: i64,
}

/// One that lives, running or paused.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    pub(super) id: String,
    pub(super) execution_id: String,
    template: usize,
    pub(super) metadata: Option<BTreeMap<String, String>>,
    /// Of the present running stretch, or the last.
    pub(super) started_at: Timestamp,
    pub(super) ends_at: Timestamp,
    pub(super) vcpu_count: u32,
    pub(super) memory_mb: u32,
    pub(super) running: bool,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Create,
    Fork,
    Update,
    Checkpoint,
    Pause,
    Resume,
    Kill,
}

/// The life of every type at once, so that whoever watches has seen all six soon.
const OPENING: [Act; 6] = [Act::Create, Act::Update, Act::Checkpoint, Act::Pause, Act::Resume, Act::Kill];

/// A team's sandboxes and what happens to them.
#[derive(Debug)]
pub struct Life {
    random: Rng,
    team_id: String,
    templates: Vec<(String, String)>,
    sandboxes: Vec<Sandbox>,
    /// Further ones than [`MAX_SANDBOXES`] that may live.
    residents: usize,
    opening: std::array::IntoIter<Act, 6>,
}

impl Life {
    /// The same seed and clock give the same story, ids included.
    pub fn new(seed: u64, team_id: impl Into<String>) -> Self {
        let mut random = Rng::with_seed(seed);
        let templates = (0..3).map(|_| (short_id(&mut random, 20), uuid(&mut random))).collect();
        Self {
            random,
            team_id: team_id.into(),
            templates,
            sandboxes: Vec::new(),
            residents: 0,
            opening: OPENING.into_iter(),
        }
    }

    /// Those that live.
    pub(super) fn sandboxes(&self) -> &[Sandbox] {
        &self.sandboxes
    }

    /// The template's id, and the alias that every other one has.
    pub(super) fn template(&self, sandbox: &Sandbox) -> (&str, Option<String>) {
        let id = self.templates.get(sandbox.template).map_or("", |(id, _)| id);
        (id, sandbox.template.is_multiple_of(2).then(|| format!("template-{}", sandbox.template)))
    }

    /// Starts `count` sandboxes of which no event tells, as if they were older than what is remembered.
    pub(super) fn settle(&mut self, count: usize, now: Timestamp) {
        self.residents += count;
        for _ in 0..count {
            let sandbox = self.sandbox(now);
            self.sandboxes.push(sandbox);
        }
    }

    /// A running sandbox ends without a word, as at a crash; which one, if there was any.
    pub(super) fn crash(&mut self) -> Option<String> {
        let index = self.pick(|sandbox| sandbox.running)?;
        Some(self.sandboxes.swap_remove(index).id)
    }

    /// Kills the one with that id, if it lives. A paused one says nothing.
    pub(super) fn end(&mut self, id: &str, now: Timestamp) -> Option<Option<Happening>> {
        let index = self.sandboxes.iter().position(|sandbox| sandbox.id == id)?;
        if self.sandboxes.get(index).is_some_and(|sandbox| sandbox.running) {
            return Some(Some(self.kill(index, now)));
        }
        self.sandboxes.swap_remove(index);
        Some(None)
    }

    /// Pauses the one with that id, if it lives. One that is paused stays so, and says nothing.
    pub(super) fn suspend(&mut self, id: &str, now: Timestamp) -> Option<Option<Happening>> {
        let index = self.sandboxes.iter().position(|sandbox| sandbox.id == id)?;
        let runs = self.sandboxes.get(index).is_some_and(|sandbox| sandbox.running);
        Some(runs.then(|| self.pause(index, now)))
    }

    /// What happens next, at `now`.
    pub fn next(&mut self, now: Timestamp) -> Happening {
        // A paused sandbox whose data expire is killed without an event.
        if self.opening.len() == 0
            && self.random.u8(..) < 4
            && let Some(index) = self.pick(|sandbox| !sandbox.running)
        {
            self.sandboxes.swap_remove(index);
        }
        let act = match self.opening.next() {
            Some(act) => act,
            None => self.choose(),
        };
        let existing = match act {
            Act::Create | Act::Fork => None,
            Act::Resume => self.pick(|sandbox| !sandbox.running),
            Act::Update | Act::Checkpoint | Act::Pause | Act::Kill => self.pick(|sandbox| sandbox.running),
        };
        match (act, existing) {
            (Act::Update, Some(index)) => self.update(index, now),
            (Act::Checkpoint, Some(index)) => {
                self.tell(index, "sandbox.lifecycle.checkpointed", now, EventData::default())
            }
            (Act::Pause, Some(index)) => self.pause(index, now),
            (Act::Resume, Some(index)) => self.resume(index, now),
            (Act::Kill, Some(index)) => self.kill(index, now),
            // A fork's child has a `resumed` and never a `created`.
            (Act::Fork, _) => self.start("sandbox.lifecycle.resumed", now),
            _ => self.start("sandbox.lifecycle.created", now),
        }
    }

    fn choose(&mut self) -> Act {
        if self.sandboxes.len() >= MAX_SANDBOXES.saturating_add(self.residents) {
            return if self.sandboxes.iter().any(|sandbox| sandbox.running) { Act::Kill } else { Act::Resume };
        }
        match self.random.u8(..100) {
            0..20 => Act::Create,
            20..22 => Act::Fork,
            22..52 => Act::Update,
            52..60 => Act::Checkpoint,
            60..73 => Act::Pause,
            73..84 => Act::Resume,
            _ => Act::Kill,
        }
    }

    fn pick(&mut self, wanted: impl Fn(&Sandbox) -> bool) -> Option<usize> {
        let candidates: Vec<usize> =
            self.sandboxes.iter().enumerate().filter(|(_, sandbox)| wanted(sandbox)).map(|(index, _)| index).collect();
        self.random.choice(candidates)
    }

    fn sandbox(&mut self, now: Timestamp) -> Sandbox {
        Sandbox {
            id: format!("i{}", short_id(&mut self.random, 20)),
            execution_id: uuid(&mut self.random),
            template: self.random.usize(..self.templates.len().max(1)),
            metadata: metadata(&mut self.random),
            started_at: now,
            ends_at: later(now, FIRST_TIMEOUT),
            vcpu_count: 1 << self.random.u32(0..4),
            memory_mb: 512 << self.random.u32(0..4),
            running: true,
        }
    }

    fn start(&mut self, kind: &str, now: Timestamp) -> Happening {
        let sandbox = self.sandbox(now);
        let happening = self.happening(&sandbox, kind, now, EventData::default());
        self.sandboxes.push(sandbox);
        happening
    }

    fn update(&mut self, index: usize, now: Timestamp) -> Happening {
        let ends_at = later(now, SignedDuration::from_secs(self.random.i64(60..3600)));
        if let Some(sandbox) = self.sandboxes.get_mut(index) {
            sandbox.ends_at = ends_at;
        }
        let set_timeout = Some(ends_at.to_string());
        self.tell(index, "sandbox.lifecycle.updated", now, EventData { set_timeout, ..EventData::default() })
    }

    fn pause(&mut self, index: usize, now: Timestamp) -> Happening {
        if let Some(sandbox) = self.sandboxes.get_mut(index) {
            sandbox.running = false;
        }
        let execution = self.sandboxes.get(index).map(|sandbox| sandbox.execution(now));
        self.tell(index, "sandbox.lifecycle.paused", now, EventData { execution, ..EventData::default() })
    }

    fn resume(&mut self, index: usize, now: Timestamp) -> Happening {
        let execution_id = uuid(&mut self.random);
        if let Some(sandbox) = self.sandboxes.get_mut(index) {
            sandbox.running = true;
            sandbox.started_at = now;
            sandbox.ends_at = later(now, FIRST_TIMEOUT);
            sandbox.execution_id = execution_id;
        }
        self.tell(index, "sandbox.lifecycle.resumed", now, EventData::default())
    }

    fn kill(&mut self, index: usize, now: Timestamp) -> Happening {
        let sandbox = self.sandboxes.swap_remove(index);
        let kill_reason = self.random.choice(["timeout", "timeout", "request", "request", "orphaned"]);
        let data = EventData { execution: Some(sandbox.execution(now)), kill_reason, ..EventData::default() };
        self.happening(&sandbox, "sandbox.lifecycle.killed", now, data)
    }

    /// Of a sandbox that goes on; one that is not there begins with it.
    fn tell(&mut self, index: usize, kind: &str, now: Timestamp, data: EventData) -> Happening {
        match self.sandboxes.get(index).cloned() {
            Some(sandbox) => self.happening(&sandbox, kind, now, data),
            None => self.start("sandbox.lifecycle.created", now),
        }
    }

    fn happening(&mut self, sandbox: &Sandbox, kind: &str, now: Timestamp, mut data: EventData) -> Happening {
        data.sandbox_metadata.clone_from(&sandbox.metadata);
        let (template_id, build_id) = self.templates.get(sandbox.template).cloned().unwrap_or_default();
        Happening {
            id: uuid(&mut self.random),
            kind: kind.to_owned(),
            at: now,
            sandbox_id: sandbox.id.clone(),
            execution_id: sandbox.execution_id.clone(),
            template_id,
            build_id,
            team_id: self.team_id.clone(),
            data: (data != EventData::default()).then_some(data),
        }
    }
}

impl Sandbox {
    fn execution(&self, now: Timestamp) -> Execution {
        Execution {
            started_at: self.started_at.to_string(),
            vcpu_count: self.vcpu_count,
            memory_mb: self.memory_mb,
            execution_time: i64::try_from(now.duration_since(self.started_at).as_millis()).unwrap_or(i64::MAX),
        }
    }
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(now)
}

/// One in five has none.
fn metadata(random: &mut Rng) -> Option<BTreeMap<String, String>> {
    if random.u8(..5) == 0 {
        return None;
    }
    let env = random.choice(["prod", "prod", "stage", "dev"]).unwrap_or("dev");
    let user = random.choice(["ada", "grace", "zoë", "linus"]).unwrap_or("ada");
    Some(BTreeMap::from([("env".to_owned(), env.to_owned()), ("user".to_owned(), user.to_owned())]))
}

/// As the provider's ids look.
fn short_id(random: &mut Rng, length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..length).filter_map(|_| random.choice(LETTERS).copied().map(char::from)).collect()
}

/// Version 4, of the seed.
pub(super) fn uuid(random: &mut Rng) -> String {
    uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashMap};

    fn story(seed: u64, length: i64) -> Vec<Happening> {
        let mut life = Life::new(seed, "team");
        (0..length).map(|second| life.next(Timestamp::from_second(1_780_000_000 + second).expect("a time"))).collect()
    }

    #[test]
    fn all_six_types_occur_within_the_first_six_events() {
        for seed in 0..50 {
            let kinds: BTreeSet<String> = story(seed, 6).into_iter().map(|happening| happening.kind).collect();
            assert_eq!(kinds.len(), 6, "seed {seed}: {kinds:?}");
        }
    }

    #[test]
    fn the_same_seed_tells_the_same_story() {
        let text = |seed| format!("{:?}", story(seed, 500));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn every_event_follows_from_the_ones_before() {
        let mut running: HashMap<String, String> = HashMap::new();
        let mut paused: HashMap<String, String> = HashMap::new();
        let mut ids = BTreeSet::new();
        for happening in story(3, 5000) {
            assert!(ids.insert(happening.id.clone()), "an id twice");
            let Happening { sandbox_id: id, execution_id: execution, data, .. } = happening;
            let data = data.unwrap_or_default();
            match happening.kind.as_str() {
                "sandbox.lifecycle.created" => {
                    assert!(running.insert(id.clone(), execution).is_none() && !paused.contains_key(&id));
                }
                "sandbox.lifecycle.resumed" => {
                    let before = paused.remove(&id);
                    assert!(before.is_none_or(|before| before != execution), "a resume begins a new execution");
                    assert!(running.insert(id, execution).is_none());
                }
                "sandbox.lifecycle.updated" | "sandbox.lifecycle.checkpointed" => {
                    assert_eq!(running.get(&id), Some(&execution));
                }
                "sandbox.lifecycle.paused" => {
                    assert_eq!(running.remove(&id).as_ref(), Some(&execution));
                    assert!(data.execution.is_some_and(|execution| execution.execution_time >= 0));
                    paused.insert(id, execution);
                }
                "sandbox.lifecycle.killed" => {
                    assert_eq!(running.remove(&id), Some(execution));
                    assert!(data.execution.is_some() && data.kill_reason.is_some());
                }
                other => panic!("{other}"),
            }
            assert!(running.len() <= MAX_SANDBOXES);
        }
    }
}
