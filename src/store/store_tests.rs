use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::config::values::MAX_METRICS;

/// A store of a file in its own directory, with a supervisor that accepts or rejects every proposal.
struct TestStore {
    dir: PathBuf,
    store: Store,
    accepts: Arc<AtomicBool>,
    proposals: Arc<Mutex<Vec<Change>>>,
}

impl TestStore {
    fn new(text: &str) -> TestStore {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("eme-store-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let path = dir.join("config.yaml");
        fs::write(&path, text).unwrap();
        let accepts = Arc::new(AtomicBool::new(true));
        let proposals = Arc::new(Mutex::new(Vec::new()));
        let (yes, seen) = (Arc::clone(&accepts), Arc::clone(&proposals));
        let store = Store::open(ConfigSource::File(Some(path)), move |proposal| {
            lock::lock(&seen).push(proposal.change);
            proposal.answer(match yes.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err("the port is taken".into()),
            });
        });
        TestStore {
            dir,
            store: store.unwrap(),
            accepts,
            proposals,
        }
    }

    fn write(&self, text: &str) {
        fs::write(self.dir.join("config.yaml"), text).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.dir.join("config.yaml")).unwrap()
    }

    fn switch(&self, changes: &[(&str, bool)]) -> Result<Option<String>, SelectError> {
        let changes = changes.iter().map(|(name, on)| (name.to_string(), *on));
        self.store.switch(&changes.collect(), &known(&["a", "b"]))
    }

    fn metrics(&self) -> Vec<(String, bool)> {
        let config = self.store.current();
        config
            .metrics
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect()
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn known(names: &[&str]) -> Vec<(String, bool)> {
    names.iter().map(|name| (name.to_string(), true)).collect()
}

fn list(metrics: &[(&str, bool)]) -> Vec<(String, bool)> {
    metrics.iter().map(|(n, on)| (n.to_string(), *on)).collect()
}

#[test]
fn first_switch_writes_all_known_metrics() {
    let test = TestStore::new("# mine\nport: 1\n");
    assert_eq!(test.switch(&[("a", false)]), Ok(None));
    assert_eq!(
        test.text(),
        "# mine\nport: 1\nmetrics:\n  a: false\n  b: true\n"
    );
    assert_eq!(test.metrics(), list(&[("a", false), ("b", true)]));
    assert_eq!(*lock::lock(&test.proposals), [Change::Selection]);
    // A switch without a change proposes nothing and writes nothing.
    assert_eq!(test.switch(&[("a", false)]), Ok(None));
    assert_eq!(lock::lock(&test.proposals).len(), 1);
}

#[test]
fn unknown_name_switches_no_metric() {
    let test = TestStore::new("metrics:\n  a: true\n  old: true\n");
    let unknown = Err(SelectError::Unknown(vec!["c".into(), "d".into()]));
    let switches = [("d", true), ("a", false), ("c", true)];
    assert_eq!(test.switch(&switches), unknown);
    assert_eq!(test.metrics(), list(&[("a", true), ("old", true)]));
    assert_eq!(test.text(), "metrics:\n  a: true\n  old: true\n");
    // Metrics in the configuration are known, whether or not the board has them.
    assert_eq!(test.switch(&[("old", false), ("b", true)]), Ok(None));
    let after = list(&[("a", true), ("b", true), ("old", false)]);
    assert_eq!(test.metrics(), after);
}

#[test]
fn found_metrics_are_added_as_false_once() {
    let test = TestStore::new("metrics:\n  a: true\n");
    test.store.add_found_metrics(&known(&["a", "b"]));
    assert_eq!(test.text(), "metrics:\n  a: true\n  b: false\n");
    let written = fs::metadata(test.dir.join("config.yaml")).unwrap();
    test.store.add_found_metrics(&known(&["a", "b"]));
    let after = fs::metadata(test.dir.join("config.yaml")).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(after.ino(), written.ino());

    let test = TestStore::new("port: 1\n");
    test.store.add_found_metrics(&known(&["a"]));
    assert_eq!(test.text(), "port: 1\n");
    assert_eq!(test.store.current().metrics, None);
}

#[test]
fn found_metrics_are_limited() {
    let test = TestStore::new("metrics: {}\n");
    let names: Vec<_> = (0..1500).map(|n| (format!("m{n}"), true)).collect();
    test.store.add_found_metrics(&names);
    assert_eq!(test.metrics().len(), MAX_METRICS);
    let changes = BTreeMap::from([("m1499".to_string(), true)]);
    let outcome = test.store.switch(&changes, &names);
    assert!(
        outcome.is_err() || test.metrics().len() == MAX_METRICS,
        "{outcome:?}"
    );
    test.store.reload().unwrap();
}

#[test]
fn edit_by_hand_is_kept_and_reloaded() {
    let test = TestStore::new("metrics:\n  a: true\n");
    test.store.reload_if_changed();
    assert_eq!(lock::lock(&test.proposals).len(), 0);
    test.write("metrics:\n  a: true\ninterval: 5 # by hand\n");
    assert_eq!(test.switch(&[("b", true)]), Ok(None));
    let text = "metrics:\n  a: true\n  b: true\ninterval: 5 # by hand\n";
    assert_eq!(test.text(), text);
    assert_eq!(test.store.current().interval.as_secs(), 1);
    test.store.reload_if_changed();
    assert_eq!(test.store.current().interval.as_secs(), 5);
    // The file as saved by the store does not count as changed.
    assert_eq!(test.switch(&[("b", false)]), Ok(None));
    let proposals = lock::lock(&test.proposals).len();
    test.store.reload_if_changed();
    assert_eq!(lock::lock(&test.proposals).len(), proposals);
}

#[test]
fn selection_removed_by_hand_is_written_in_full() {
    let test = TestStore::new("metrics:\n  a: true\n");
    test.write("port: 1\n");
    assert_eq!(test.switch(&[("b", true)]), Ok(None));
    assert_eq!(test.text(), "port: 1\nmetrics:\n  a: true\n  b: true\n");
}

#[test]
fn unsaved_changes_are_in_force_until_reload() {
    let test = TestStore::new("metrics:\n  a: true\n");
    test.write("metrics:\n  a: &x true\n");
    let why = test.switch(&[("a", false)]).unwrap().unwrap();
    assert!(why.contains("config.yaml:2:"), "{why}");
    assert_eq!(test.metrics(), list(&[("a", false)]));
    assert_eq!(test.store.status().unsaved, Some(why));
    test.store.retry_saving();
    assert!(test.store.status().unsaved.is_some());
    // The next switch also saves the unsaved change.
    test.write("metrics:\n  a: true\n");
    assert_eq!(test.switch(&[("b", true)]), Ok(None));
    assert_eq!(test.text(), "metrics:\n  a: false\n  b: true\n");
    assert_eq!(test.store.status().unsaved, None);

    test.write("metrics: [\n");
    assert!(test.switch(&[("b", false)]).unwrap().is_some());
    test.write("metrics:\n  a: true\n");
    test.store.retry_saving();
    assert_eq!(test.text(), "metrics:\n  a: true\n  b: false\n");
    test.write("metrics: [\n");
    assert!(test.switch(&[("a", false)]).unwrap().is_some());
    test.write("metrics:\n  a: true\n");
    test.store.reload().unwrap();
    assert_eq!(test.metrics(), list(&[("a", true)]));
    assert_eq!(test.store.status().unsaved, None);
}

#[test]
fn invalid_configuration_changes_nothing_and_is_reported() {
    let test = TestStore::new("interval: 2\n");
    test.write("interval: fast\n");
    let error = test.store.reload().unwrap_err();
    assert!(error.contains("config.yaml:1:11"), "{error}");
    assert_eq!(test.store.status().refusal.unwrap().message, error);
    assert_eq!(test.store.current().interval.as_secs(), 2);
    // A configuration that the supervisor rejects is reported as well.
    test.accepts.store(false, Ordering::Relaxed);
    test.write("interval: 3\n");
    assert_eq!(test.store.reload(), Err("the port is taken".into()));
    assert_eq!(test.store.current().interval.as_secs(), 2);
    // With the previous configuration, the report is cleared.
    test.accepts.store(true, Ordering::Relaxed);
    test.write("interval: 2\n");
    test.store.reload_if_changed();
    assert_eq!(test.store.status().refusal, None);
    fs::remove_file(test.dir.join("config.yaml")).unwrap();
    test.store.reload_if_changed();
    let refusal = test.store.status().refusal.unwrap();
    assert!(refusal.message.contains("cannot read"), "{refusal:?}");
}

#[test]
fn concurrent_switches_are_both_kept() {
    let test = TestStore::new("metrics:\n  a: true\n  b: true\n");
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let test = &test;
            scope.spawn(move || {
                for n in 0..21 {
                    test.switch(&[(name, n % 2 == 1)]).unwrap();
                }
            });
        }
    });
    assert_eq!(test.text(), "metrics:\n  a: false\n  b: false\n");
    assert_eq!(test.metrics(), list(&[("a", false), ("b", false)]));
}

#[test]
fn changes_without_a_file_are_in_force() {
    let store = Store::open(ConfigSource::File(None), |p| p.answer(Ok(()))).unwrap();
    let changes = BTreeMap::from([("a".to_string(), false)]);
    let why = store
        .switch(&changes, &known(&["a", "b"]))
        .unwrap()
        .unwrap();
    assert!(why.contains("--config"), "{why}");
    assert_eq!(store.current().metrics.as_ref().unwrap().len(), 2);
    let gone = Store::open(ConfigSource::File(None), drop).unwrap();
    let outcome = gone.switch(&changes, &known(&["a"]));
    assert!(
        matches!(outcome, Err(SelectError::Failed(_))),
        "{outcome:?}"
    );
}
