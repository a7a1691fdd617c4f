//! The one scheduler: which task, call or worker goes on next, and when time passes, is drawn from the seed.

use e2b_relay::executor::{Call, Scheduler, Steps};
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// Lines of the trace that a failure shows.
const SHOWN: usize = 1000;

/// Workers and calls, as the core hands them over.
#[derive(Default)]
pub(super) struct Crew(Mutex<Handed>);

#[derive(Default)]
struct Handed {
    workers: Vec<(String, Steps)>,
    calls: Vec<Call>,
}

impl Scheduler for Crew {
    fn worker(&self, name: &str, steps: Steps) {
        self.0.lock().unwrap().workers.push((name.to_owned(), steps));
    }

    fn call(&self, call: Call) {
        self.0.lock().unwrap().calls.push(call);
    }

    fn others(&self) {
        let workers = self.0.lock().unwrap().workers.clone();
        workers.iter().for_each(|(_, steps)| _ = steps.step());
    }
}

struct Task {
    name: String,
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
    done: Rc<Cell<bool>>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What was done, for people, and as a sum that tells two runs apart.
#[derive(Default)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    /// Likewise, of what is more than a turn.
    events: VecDeque<String>,
    sum: DefaultHasher,
}

impl Trace {
    fn note(&mut self, line: String, is_turn: bool) {
        line.hash(&mut self.sum);
        let lines = if is_turn { &mut self.lines } else { &mut self.events };
        if lines.len() == SHOWN {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum.finish()
    }

    pub(super) fn show(&self) -> String {
        self.events.iter().chain(&self.lines).fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "  {line}");
            text
        })
    }
}

/// Cloning shares it.
#[derive(Clone)]
pub(super) struct Turns {
    pub(super) crew: Arc<Crew>,
    rng: Rc<RefCell<Rng>>,
    pub(super) trace: Rc<RefCell<Trace>>,
    tasks: Rc<RefCell<Vec<Task>>>,
    began: Instant,
}

impl Turns {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            crew: Arc::default(),
            rng: Rc::new(RefCell::new(Rng::with_seed(seed))),
            trace: Rc::default(),
            tasks: Rc::default(),
            began: Instant::now(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn draw<T>(&self, with: impl FnOnce(&mut Rng) -> T) -> T {
        with(&mut self.rng.borrow_mut())
    }

    pub(super) fn note(&self, line: impl Into<String>) {
        self.note_as(&line.into(), false);
    }

    fn note_as(&self, line: &str, is_turn: bool) {
        let at = self.elapsed().as_micros();
        self.trace.borrow_mut().note(format!("{at:>10} {line}"), is_turn);
    }

    /// Goes on beside everything else. The cell tells when it is done.
    pub(super) fn spawn(&self, name: &str, future: impl Future<Output = ()> + 'static) -> Rc<Cell<bool>> {
        let done = Rc::new(Cell::new(false));
        let task = Task {
            name: name.to_owned(),
            future: Box::pin(future),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            done: Rc::clone(&done),
        };
        self.tasks.borrow_mut().push(task);
        done
    }

    /// Ends everything where it is, as a kill does.
    pub(super) fn kill(&self) {
        let Handed { workers, calls } = std::mem::take(&mut *self.crew.0.lock().unwrap());
        workers.iter().for_each(|(_, steps)| steps.kill());
        drop(calls);
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        // What its end has asked for.
        *self.crew.0.lock().unwrap() = Handed::default();
    }

    /// One thing goes on by one step, or time passes.
    pub(super) async fn turn(&self) {
        let kind = self.draw(|rng| rng.u8(0..16));
        let did = match kind {
            0..9 => self.poll_one() || self.call_one() || self.step_one(),
            9..12 => self.call_one() || self.step_one(),
            _ => self.step_one(),
        };
        let pass =
            if self.is_busy() { self.draw(|rng| rng.u8(..)) == 0 } else { !did || self.draw(|rng| rng.u8(0..4)) == 0 };
        if pass {
            self.pass().await;
        }
    }

    fn is_busy(&self) -> bool {
        let runnable = self.tasks.borrow().iter().any(|task| task.woken.0.load(Ordering::Relaxed));
        runnable || !self.crew.0.lock().unwrap().calls.is_empty()
    }

    /// Much time passes, unless something can go on without.
    pub(super) async fn let_pass(&self, time: Duration) {
        if !self.is_busy() {
            self.note(format!("{time:?} pass"));
            tokio::time::sleep(time).await;
        }
    }

    async fn pass(&self) {
        let micros = self.draw(|rng| match rng.u8(0..16) {
            0 => rng.u64(100_000..2_000_000),
            1..5 => rng.u64(5_000..100_000),
            _ => rng.u64(100..5_000),
        });
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }

    fn poll_one(&self) -> bool {
        let mut task = {
            let mut tasks = self.tasks.borrow_mut();
            let runnable = |(at, task): (usize, &Task)| task.woken.0.load(Ordering::Relaxed).then_some(at);
            let runnable: Vec<usize> = tasks.iter().enumerate().filter_map(runnable).collect();
            let Some(at) = self.draw(|rng| rng.choice(runnable)) else { return false };
            tasks.remove(at)
        };
        task.woken.0.store(false, Ordering::Relaxed);
        self.note_as(&format!("task {}", task.name), true);
        let waker = Waker::from(Arc::clone(&task.woken));
        match task.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => task.done.set(true),
            Poll::Pending => self.tasks.borrow_mut().push(task),
        }
        true
    }

    fn call_one(&self) -> bool {
        let call = {
            let mut handed = self.crew.0.lock().unwrap();
            if handed.calls.is_empty() {
                return false;
            }
            let at = self.draw(|rng| rng.usize(0..handed.calls.len()));
            handed.calls.remove(at)
        };
        self.note_as("call", true);
        call();
        true
    }

    fn step_one(&self) -> bool {
        let worker = {
            let handed = self.crew.0.lock().unwrap();
            // Most of what these do is looking around.
            let seldom = |name: &str| ["janitor", "librarian"].contains(&name);
            let often = self.draw(|rng| rng.u8(0..8)) > 0;
            let wanted = |(name, _): &&(String, Steps)| !often || !seldom(name);
            let workers: Vec<&(String, Steps)> = handed.workers.iter().filter(wanted).collect();
            self.draw(|rng| rng.choice(workers)).cloned()
        };
        let Some((name, steps)) = worker else { return false };
        self.note_as(&format!("step {name}"), true);
        if !steps.step() {
            self.crew.0.lock().unwrap().workers.retain(|(other, _)| *other != name);
        }
        true
    }
}
