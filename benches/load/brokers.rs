//! The brokers that tests/brokers has started: one folder each, with the address in `url` and the process in `pid`.

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use std::path::{Path, PathBuf};

pub(crate) struct Broker {
    folder: PathBuf,
}

impl Broker {
    /// `name`: kafka, nats or rabbitmq.
    pub(crate) fn new(all: &Path, name: &str) -> Self {
        Self { folder: all.join(name) }
    }

    pub(crate) fn url(&self) -> anyhow::Result<String> {
        self.read("url")
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.read("pid")?.parse()?)
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = self.folder.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }
}

/// Topics are not created by themselves there.
pub(crate) async fn create_topic(servers: &str, topic: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", servers).create()?;
    let new = NewTopic::new(topic, 6, TopicReplication::Fixed(1));
    for created in admin.create_topics([&new], &AdminOptions::new()).await? {
        created.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}
