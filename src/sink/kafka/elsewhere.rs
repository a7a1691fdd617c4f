//! Where librdkafka's clients end.

/// Held by what librdkafka calls back, which a client drops last: tells a test in which thread that was.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Witness;

#[cfg(test)]
thread_local! {
    static ENDED_HERE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
impl Drop for Witness {
    fn drop(&mut self) {
        ENDED_HERE.set(ENDED_HERE.get() + 1);
    }
}

#[cfg(test)]
impl Witness {
    /// How many clients this thread has ended itself.
    pub(super) fn ended_here() -> usize {
        ENDED_HERE.get()
    }
}
