//! Who runs what goes on beside: threads in the daemon; in the simulation one scheduler, on one thread, one step at a time.
//!
//! Two things go on beside the runtime's tasks. A [`Worker`] is a loop that is written as its step. A call is work that may
//! block, of which the end is awaited. Whoever has either asks an [`Executor`] for it and does not see who runs it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// A loop that goes on beside everything else, as its step.
pub trait Worker: Send {
    /// Waits for at most `patience` for something to do, and does it, and whatever is due. `false` once it has come to its
    /// end.
    fn step(&mut self, patience: Duration) -> bool;
}

/// Work that may block.
pub type Call = Box<dyn FnOnce() + Send>;

/// Who runs workers and calls where no threads are to.
pub trait Scheduler: Send + Sync {
    /// One more to be run, until it has come to its end.
    fn worker(&self, name: &str, steps: Steps);
    /// To be run once, or dropped.
    fn call(&self, call: Call);
    /// Whoever runs now blocks until one worker has ended: the others may step meanwhile.
    fn others(&self);
}

/// A worker that a [`Scheduler`] runs. Cloning shares it.
#[derive(Clone)]
pub struct Steps(Arc<Mutex<Option<Box<dyn Worker>>>>);

impl Steps {
    fn worker(&self) -> MutexGuard<'_, Option<Box<dyn Worker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what there is to do now. `false` once it has come to its end.
    pub fn step(&self) -> bool {
        let mut worker = self.worker();
        let goes_on = worker.as_mut().is_some_and(|worker| worker.step(Duration::ZERO));
        if !goes_on {
            *worker = None;
        }
        goes_on
    }

    /// Ends it where it is, as a kill does.
    pub fn kill(&self) {
        *self.worker() = None;
    }
}

/// What happened to work whose end is awaited and never comes: it panicked, or the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work did not come to its end")]
pub struct Lost;

impl From<Lost> for io::Error {
    fn from(lost: Lost) -> Self {
        Self::other(lost)
    }
}

/// Runs workers and calls. By default on threads: each worker has its own, calls share the runtime's.
#[derive(Clone, Default)]
pub struct Executor(Option<Arc<dyn Scheduler>>);

impl Executor {
    /// One that leaves everything to a scheduler.
    pub fn scheduled(by: Arc<dyn Scheduler>) -> Self {
        Self(Some(by))
    }

    /// Runs a worker until it ends; its steps may wait for `patience`.
    pub fn start(&self, name: &str, patience: Duration, mut worker: Box<dyn Worker>) -> io::Result<Running> {
        if let Some(scheduler) = &self.0 {
            let steps = Steps(Arc::new(Mutex::new(Some(worker))));
            scheduler.worker(name, steps.clone());
            return Ok(Running::Steps(steps, Arc::clone(scheduler)));
        }
        let run = move || while worker.step(patience) {};
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map(Running::Thread)
    }

    /// Runs what may block; it goes on though nobody awaits its end any more.
    pub fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, Lost>> + Send + 'static {
        let (done, result) = oneshot::channel();
        let call = move || drop(done.send(work()));
        match &self.0 {
            Some(scheduler) => scheduler.call(Box::new(call)),
            None => drop(tokio::task::spawn_blocking(call)),
        }
        async move { result.await.map_err(|_| Lost) }
    }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Executor(scheduled)" } else { "Executor(threads)" })
    }
}

/// A worker that was started.
pub enum Running {
    /// It has a thread of its own.
    Thread(JoinHandle<()>),
    /// A scheduler runs it.
    Steps(Steps, Arc<dyn Scheduler>),
}

impl Running {
    /// Blocks until it has come to its end, which it is told elsewhere. Fails where it panicked.
    pub fn join(self) -> Result<(), Lost> {
        match self {
            Self::Thread(thread) => thread.join().map_err(|_| Lost),
            Self::Steps(steps, scheduler) => {
                while steps.step() {
                    scheduler.others();
                }
                Ok(())
            }
        }
    }

    /// How whoever asks it something waits for the answer.
    pub fn answers(&self) -> Answers {
        match self {
            Self::Thread(_) => Answers(None),
            Self::Steps(steps, _) => Answers(Some(steps.clone())),
        }
    }
}

/// How an answer of a worker is waited for. By default the worker runs on a thread.
#[derive(Clone, Default)]
pub struct Answers(Option<Steps>);

impl Answers {
    /// Blocks until the worker has answered; `None` where it has ended without.
    pub fn wait<T>(&self, answer: &mpsc::Receiver<T>) -> Option<T> {
        let Some(steps) = &self.0 else { return answer.recv().ok() };
        loop {
            match answer.try_recv() {
                Ok(answer) => return Some(answer),
                Err(mpsc::TryRecvError::Disconnected) => return None,
                Err(mpsc::TryRecvError::Empty) if steps.step() => {}
                Err(mpsc::TryRecvError::Empty) => return answer.try_recv().ok(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes on what it is told, until told nothing more.
    struct Echo(mpsc::Receiver<u32>, mpsc::Sender<u32>);

    impl Worker for Echo {
        fn step(&mut self, patience: Duration) -> bool {
            match self.0.recv_timeout(patience) {
                Ok(number) => self.1.send(number).is_ok(),
                Err(why) => why == mpsc::RecvTimeoutError::Timeout,
            }
        }
    }

    #[derive(Default)]
    struct Collected(Mutex<(Vec<Steps>, Vec<Call>)>);

    impl Scheduler for Collected {
        fn worker(&self, _: &str, steps: Steps) {
            self.0.lock().unwrap().0.push(steps);
        }

        fn call(&self, call: Call) {
            self.0.lock().unwrap().1.push(call);
        }

        fn others(&self) {}
    }

    fn echo(executor: &Executor) -> (Running, mpsc::Sender<u32>, mpsc::Receiver<u32>) {
        let ((tell, told), (answer, answers)) = (mpsc::channel(), mpsc::channel());
        let running = executor.start("echo", Duration::from_secs(60), Box::new(Echo(told, answer))).unwrap();
        (running, tell, answers)
    }

    #[test]
    fn a_worker_answers_and_ends_whoever_runs_it() {
        for executor in [Executor::default(), Executor::scheduled(Arc::new(Collected::default()))] {
            let (running, tell, answers) = echo(&executor);
            tell.send(1).unwrap();
            assert_eq!(running.answers().wait(&answers), Some(1), "{executor:?}");
            drop(tell);
            assert_eq!(running.answers().wait(&answers), None, "{executor:?}");
            assert_eq!(running.join(), Ok(()), "{executor:?}");
        }
    }

    #[test]
    fn a_scheduler_decides_when_a_worker_does_something() {
        let scheduler = Arc::new(Collected::default());
        let (_running, tell, answers) = echo(&Executor::scheduled(scheduler.clone()));
        tell.send(1).unwrap();
        assert!(answers.try_recv().is_err());
        let steps = scheduler.0.lock().unwrap().0.pop().unwrap();
        assert!(steps.step());
        assert_eq!(answers.try_recv(), Ok(1));
        steps.kill();
        assert!(!steps.step());
        assert!(tell.send(2).is_err(), "it is gone");
    }

    #[tokio::test]
    async fn the_end_of_a_call_is_awaited_and_its_panic_is_not_passed_on() {
        let executor = Executor::default();
        assert_eq!(executor.call(|| 7).await, Ok(7));
        assert_eq!(executor.call(|| -> u32 { panic!("no") }).await, Err(Lost));

        let scheduler = Arc::new(Collected::default());
        let executor = Executor::scheduled(scheduler.clone());
        let (first, second) = (executor.call(|| 1), executor.call(|| 2));
        let calls = std::mem::take(&mut scheduler.0.lock().unwrap().1);
        let [one, two] = calls.try_into().ok().unwrap();
        two();
        drop(one);
        assert_eq!((first.await, second.await), (Err(Lost), Ok(2)));
    }
}
