//! Where librdkafka's clients end: on a thread of their own. Ending one joins its threads and waits for what is on its way,
//! half a second and more, for which no thread of the runtime may be stopped, whoever lets go of it last: a sink that was
//! not closed, a question that was cancelled, an error on the way.

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, KafkaResult};
use std::ops::Deref;
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;

/// A client of librdkafka's. `clippy.toml` sees to it that there is none without this around it.
pub(super) struct Elsewhere<T> {
    // Dropped in this order: the thread that waits for the second then has the last hold on the client.
    client: Arc<T>,
    _held: mpsc::Sender<Arc<T>>,
}

/// Comes when the client has ended.
pub(super) type Ended = oneshot::Receiver<()>;

impl<T: Send + Sync + 'static> Elsewhere<T> {
    /// Makes a client. The thread that will end it is there before it, so that it can always be ended.
    pub(super) fn start<C>(config: &ClientConfig, context: C) -> KafkaResult<(Self, Ended)>
    where
        T: FromClientConfigAndContext<C>,
        C: rdkafka::ClientContext,
    {
        let (held, receiver) = mpsc::channel::<Arc<T>>();
        let (done, ended) = oneshot::channel();
        let end = move || {
            // An error: it could not be made.
            let client = receiver.recv();
            // An error is what is waited for: nobody else has it any more.
            let _ = receiver.recv();
            drop(client);
            // Nobody may be waiting.
            let _ = done.send(());
        };
        let thread = std::thread::Builder::new().name("kafka-end".to_owned()).spawn(end);
        thread.map_err(|error| KafkaError::ClientCreation(format!("no thread that could end it: {error}")))?;
        #[expect(clippy::disallowed_methods, reason = "here it gets what it must not be without")]
        let client = Arc::new(T::from_config_and_context(config, context)?);
        // It waits for it.
        let _ = held.send(Arc::clone(&client));
        Ok((Self { client, _held: held }, ended))
    }
}

impl<T> Deref for Elsewhere<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.client
    }
}

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
