//! What rests on the wall clock, while that is set.

use super::*;
use crate::store::files::guarded::Guarded;
use crate::store::write::janitor::Janitor;
use jiff::SignedDuration;

/// Both of the host's clocks, set by the test.
#[derive(Clone)]
struct Clocks(Arc<Guarded<(jiff::Timestamp, Duration)>>);

impl Clocks {
    fn new() -> Self {
        Self(Arc::new(Guarded::new((NOON.parse().unwrap(), Duration::from_secs(1000)))))
    }

    fn pass(&self, time: Duration) {
        let mut now = self.0.lock();
        *now = (now.0 + SignedDuration::try_from(time).unwrap(), now.1 + time);
    }

    fn step(&self, by: SignedDuration) {
        self.0.lock().0 += by;
    }

    fn parts(&self) -> Parts {
        let (wall, boot) = (self.clone(), self.clone());
        Parts { clock: Arc::new(move || wall.0.lock().0), boot_clock: Arc::new(move || boot.0.lock().1), ..parts(NOON) }
    }
}

/// The names of the segments and of the files of ids.
fn files(folder: &Path) -> (usize, usize) {
    let names = std::fs::read_dir(folder.join("journal")).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    let of = |ending: &str| names.iter().filter(|name| name.ends_with(ending)).count();
    (of(".seg"), of(".ids"))
}

#[tokio::test]
async fn after_a_step_of_the_clock_nothing_is_forgotten_for_an_hour_and_then_what_is_over() {
    for days in [30, -30] {
        let (folder, clocks) = (tempfile::tempdir().unwrap(), Clocks::new());
        let store = crate::store::open(settings(folder.path()), clocks.parts()).unwrap();
        let mut janitor = Janitor::new(
            Arc::clone(&store.engine.shared),
            store.engine.health().join("a test", Duration::from_secs(300)),
            Vec::new(),
            std::sync::mpsc::channel().1,
        );
        // Segments of 1 MiB, of which the last one stays.
        accept_many(&store, (0..4000).map(|number| format!("event-{number}")), NOON).await;
        // The store's own janitor writes the ids of what is full beside this.
        let are_written = async {
            while files(folder.path()).1 + 1 < files(folder.path()).0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), are_written).await.expect("the ids are written");
        janitor.tidy();
        let before = files(folder.path());
        assert!(before.0 >= 3 && before.1 == before.0 - 1, "{before:?}");

        clocks.step(SignedDuration::from_hours(24 * days));
        for _ in 0..3600 {
            janitor.tidy();
            assert_eq!(files(folder.path()), before, "forgotten while the clock is in doubt");
            clocks.pass(Duration::from_secs(1));
        }
        janitor.tidy();
        if days > 0 {
            assert_eq!(files(folder.path()), (1, 0), "both the events and their ids are over");
        } else {
            assert_eq!(files(folder.path()), before, "their time is still to come");
            // By the clock as it is now.
            clocks.pass(Duration::from_secs((30 + 9) * 86_400));
            janitor.tidy();
            assert_eq!(files(folder.path()), (1, 0));
        }
    }
}

#[tokio::test]
async fn what_a_suspend_adds_to_the_wall_clock_is_no_step() {
    let (folder, clocks) = (tempfile::tempdir().unwrap(), Clocks::new());
    let store = crate::store::open(settings(folder.path()), clocks.parts()).unwrap();
    clocks.pass(Duration::from_secs(30 * 86_400));
    assert!(store.engine.shared.clock_is_sane());
}
