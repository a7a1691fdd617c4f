//! `/livez` and the watchdog, by one judgement: with a disk whose `fdatasync` does not return.

use super::manager::Manager;
use crate::receiver::harness::Relay;
use crate::support::daemon::{PATIENCE, reqwest_client};
use crate::support::fault_disk::World;
use crate::support::load::body;
use crate::support::stored::{self, Store};
use e2b_relay::admin::{self, Access, Token};
use e2b_relay::app::Watchdog;
use e2b_relay::event::{Arrival, Event, Timestamp};
use e2b_relay::health::Health;
use e2b_relay::http::Listener;
use e2b_relay::shutdown::{self, Trigger};
use e2b_relay::store::{Parts, Settings};
use e2b_relay::systemd::Notifier;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A store on a disk of the test's own, seen through the admin listener; the clock only moves when it is told to.
struct Scene {
    world: World,
    store: Arc<Store>,
    seconds: Arc<AtomicU64>,
    watchdog: Watchdog,
    manager: Manager,
    livez: String,
    _kept: (tempfile::TempDir, Relay, Trigger),
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(folder.path(), 1);
        let seconds = Arc::new(AtomicU64::new(0));
        let now = Arc::clone(&seconds);
        let health = Health::new(Arc::new(move || Duration::from_secs(now.load(Ordering::SeqCst))));
        let settings = Settings {
            path: folder.path().join("store"),
            min_free: Some(bytesize::ByteSize::b(0)),
            ..Settings::default()
        };
        let parts = Parts { disk: world.disk(None), health: health.clone(), ..stored::parts() };
        let store = Arc::new(Store::open(settings, parts).unwrap());
        let relay = Relay::start().await;
        let listener = Listener::bind_admin(([127, 0, 0, 1], 0).into(), None).await.unwrap();
        let livez = format!("http://{}/livez", listener.address());
        let (trigger, shutdown) = shutdown::channel();
        let router = admin::router(crate::admin::parts(
            listener.address(),
            Access::new(&admin::Settings::default(), Token::own(folder.path()).unwrap()),
            &relay,
            &store,
            shutdown.clone(),
        ));
        tokio::spawn(listener.serve(router, shutdown));
        let socket = folder.path().join("notify");
        let manager = Manager::at(&socket);
        let watchdog = Watchdog::new(health, Notifier::connect(socket.as_os_str()).unwrap());
        Self { world, store, seconds, watchdog, manager, livez, _kept: (folder, relay, trigger) }
    }

    /// What `/livez` answers.
    async fn livez(&self) -> (u16, String) {
        let reply = reqwest_client().get(&self.livez).send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    }

    /// Its threads have seen the clock.
    async fn until_alive(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.livez().await.0 != 200 {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", self.livez().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    /// One look; what the manager heard.
    fn look(&mut self) -> Vec<String> {
        self.watchdog.look();
        self.manager.heard()
    }
}

fn event(id: &str) -> (Event, Arrival) {
    let now = jiff::Timestamp::now();
    let event = Event {
        id: id.to_owned(),
        kind: "sandbox.lifecycle.created".to_owned(),
        sandbox_id: "sbx-1".to_owned(),
        timestamp: Timestamp::parse(&now.to_string()).unwrap(),
        body: body(id, "sbx-1", 0, true).into(),
    };
    (event, stored::arrival(now))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_does_not_return_is_seen_after_thirty_seconds_and_no_longer_than_it_lasts() {
    let mut scene = Scene::new().await;
    let (first, arrival) = event("one");
    scene.store.accept(first, arrival).await.unwrap();
    assert_eq!(scene.livez().await, (200, "alive\n".to_owned()));
    assert_eq!(scene.look(), ["WATCHDOG=1\n"]);

    scene.world.block_syncs();
    let (store, (second, arrival)) = (Arc::clone(&scene.store), event("two"));
    let waits = tokio::spawn(async move { store.accept(second, arrival).await });
    let world = scene.world.clone();
    tokio::task::spawn_blocking(move || world.until_a_sync_is_blocked()).await.unwrap();
    scene.pass(30);
    assert_eq!(scene.livez().await.0, 200);
    assert_eq!(scene.look(), ["WATCHDOG=1\n"]);
    scene.pass(1);
    // Tasks beat by their own clock, so that one or another may stand beside it.
    let (status, body) = scene.livez().await;
    assert_eq!(status, 503);
    assert!(body.contains("not alive: the store's committer has not moved for 31 s\n"), "{body}");
    let said = scene.look().concat();
    assert!(said.starts_with("STATUS=something stands still: ") && !said.contains("WATCHDOG"), "{said}");
    assert!(said.contains("the store's committer has not moved for 31 s"), "{said}");
    scene.pass(10);
    assert_eq!(scene.look(), [""; 0], "said once, and the watchdog not fed");

    scene.world.release_syncs();
    waits.await.unwrap().unwrap();
    scene.until_alive().await;
    assert_eq!(scene.look(), ["WATCHDOG=1\n", "STATUS=everything moves again\n"]);
    // Nothing is to be done, and it is alive all the same.
    scene.pass(1_000);
    scene.until_alive().await;
    assert_eq!(scene.look(), ["WATCHDOG=1\n"]);
}
