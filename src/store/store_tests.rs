use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::config::values::MAX_METRICS;

/// A store of a file in a directory of its own, whose supervisor takes everything or nothing.
struct Scene {
    dir: PathBuf,
    store: Store,
    obliging: Arc<AtomicBool>,
    proposals: Arc<Mutex<Vec<Change>>>,
}

impl Scene {
    fn new(text: &str) -> Scene {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("eme-store-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let path = dir.join("config.yaml");
        fs::write(&path, text).unwrap();
        let obliging = Arc::new(AtomicBool::new(true));
        let proposals = Arc::new(Mutex::new(Vec::new()));
        let (yes, seen) = (Arc::clone(&obliging), Arc::clone(&proposals));
        let store = Store::open(Configuration::File(Some(path)), move |proposal| {
            lock::lock(&seen).push(proposal.change);
            proposal.answer(match yes.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err("the port is taken".into()),
            });
        });
        Scene {
            dir,
            store: store.unwrap(),
            obliging,
            proposals,
        }
    }

    fn write(&self, text: &str) {
        fs::write(self.dir.join("config.yaml"), text).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.dir.join("config.yaml")).unwrap()
    }

    fn switch(&self, changes: &[(&str, bool)]) -> Result<Option<String>, NotSet> {
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

impl Drop for Scene {
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
fn the_first_switch_writes_down_all_that_is_known() {
    let scene = Scene::new("# mine\nport: 1\n");
    assert_eq!(scene.switch(&[("a", false)]), Ok(None));
    assert_eq!(
        scene.text(),
        "# mine\nport: 1\nmetrics:\n  a: false\n  b: true\n"
    );
    assert_eq!(scene.metrics(), list(&[("a", false), ("b", true)]));
    assert_eq!(*lock::lock(&scene.proposals), [Change::Selection]);
    // What changes nothing proposes nothing, and writes nothing.
    assert_eq!(scene.switch(&[("a", false)]), Ok(None));
    assert_eq!(lock::lock(&scene.proposals).len(), 1);
}

#[test]
fn all_are_switched_or_none() {
    let scene = Scene::new("metrics:\n  a: true\n  old: true\n");
    let unknown = Err(NotSet::Unknown(vec!["c".into(), "d".into()]));
    let asked = [("d", true), ("a", false), ("c", true)];
    assert_eq!(scene.switch(&asked), unknown);
    assert_eq!(scene.metrics(), list(&[("a", true), ("old", true)]));
    assert_eq!(scene.text(), "metrics:\n  a: true\n  old: true\n");
    // What the configuration names is known, whether or not the board has it.
    assert_eq!(scene.switch(&[("old", false), ("b", true)]), Ok(None));
    let after = list(&[("a", true), ("b", true), ("old", false)]);
    assert_eq!(scene.metrics(), after);
}

#[test]
fn what_was_found_is_noted_as_false_once() {
    let scene = Scene::new("metrics:\n  a: true\n");
    scene.store.note_found(&known(&["a", "b"]));
    assert_eq!(scene.text(), "metrics:\n  a: true\n  b: false\n");
    let written = fs::metadata(scene.dir.join("config.yaml")).unwrap();
    scene.store.note_found(&known(&["a", "b"]));
    let after = fs::metadata(scene.dir.join("config.yaml")).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(after.ino(), written.ino());

    let scene = Scene::new("port: 1\n");
    scene.store.note_found(&known(&["a"]));
    assert_eq!(scene.text(), "port: 1\n");
    assert_eq!(scene.store.current().metrics, None);
}

#[test]
fn no_more_is_noted_than_may_be() {
    let scene = Scene::new("metrics: {}\n");
    let names: Vec<_> = (0..1500).map(|n| (format!("m{n}"), true)).collect();
    scene.store.note_found(&names);
    assert_eq!(scene.metrics().len(), MAX_METRICS);
    let changes = BTreeMap::from([("m1499".to_string(), true)]);
    let outcome = scene.store.switch(&changes, &names);
    assert!(
        outcome.is_err() || scene.metrics().len() == MAX_METRICS,
        "{outcome:?}"
    );
    scene.store.reload().unwrap();
}

#[test]
fn an_edit_by_hand_is_kept_and_not_mistaken_for_what_is_in_force() {
    let scene = Scene::new("metrics:\n  a: true\n");
    scene.store.reload_if_changed();
    assert_eq!(lock::lock(&scene.proposals).len(), 0);
    scene.write("metrics:\n  a: true\ninterval: 5 # by hand\n");
    assert_eq!(scene.switch(&[("b", true)]), Ok(None));
    let text = "metrics:\n  a: true\n  b: true\ninterval: 5 # by hand\n";
    assert_eq!(scene.text(), text);
    assert_eq!(scene.store.current().interval.as_secs(), 1);
    scene.store.reload_if_changed();
    assert_eq!(scene.store.current().interval.as_secs(), 5);
    // What was saved here is no change.
    assert_eq!(scene.switch(&[("b", false)]), Ok(None));
    let proposals = lock::lock(&scene.proposals).len();
    scene.store.reload_if_changed();
    assert_eq!(lock::lock(&scene.proposals).len(), proposals);
}

#[test]
fn an_edit_by_hand_that_took_the_selection_away_gets_all_of_it_back() {
    let scene = Scene::new("metrics:\n  a: true\n");
    scene.write("port: 1\n");
    assert_eq!(scene.switch(&[("b", true)]), Ok(None));
    assert_eq!(scene.text(), "port: 1\nmetrics:\n  a: true\n  b: true\n");
}

#[test]
fn what_cannot_be_saved_holds_until_the_file_is_loaded_again() {
    let scene = Scene::new("metrics:\n  a: true\n");
    scene.write("metrics:\n  a: &x true\n");
    let why = scene.switch(&[("a", false)]).unwrap().unwrap();
    assert!(why.contains("config.yaml:2:"), "{why}");
    assert_eq!(scene.metrics(), list(&[("a", false)]));
    assert_eq!(scene.store.status().unsaved, Some(why));
    scene.store.retry_saving();
    assert!(scene.store.status().unsaved.is_some());
    // The next one takes it along.
    scene.write("metrics:\n  a: true\n");
    assert_eq!(scene.switch(&[("b", true)]), Ok(None));
    assert_eq!(scene.text(), "metrics:\n  a: false\n  b: true\n");
    assert_eq!(scene.store.status().unsaved, None);

    scene.write("metrics: [\n");
    assert!(scene.switch(&[("b", false)]).unwrap().is_some());
    scene.write("metrics:\n  a: true\n");
    scene.store.retry_saving();
    assert_eq!(scene.text(), "metrics:\n  a: true\n  b: false\n");
    scene.write("metrics: [\n");
    assert!(scene.switch(&[("a", false)]).unwrap().is_some());
    scene.write("metrics:\n  a: true\n");
    scene.store.reload().unwrap();
    assert_eq!(scene.metrics(), list(&[("a", true)]));
    assert_eq!(scene.store.status().unsaved, None);
}

#[test]
fn a_bad_configuration_changes_nothing_and_is_remembered() {
    let scene = Scene::new("interval: 2\n");
    scene.write("interval: fast\n");
    let error = scene.store.reload().unwrap_err();
    assert!(error.contains("config.yaml:1:11"), "{error}");
    assert_eq!(scene.store.status().refusal.unwrap().message, error);
    assert_eq!(scene.store.current().interval.as_secs(), 2);
    // One that the supervisor refuses is as bad.
    scene.obliging.store(false, Ordering::Relaxed);
    scene.write("interval: 3\n");
    assert_eq!(scene.store.reload(), Err("the port is taken".into()));
    assert_eq!(scene.store.current().interval.as_secs(), 2);
    // As it was before: there is nothing to say any more.
    scene.obliging.store(true, Ordering::Relaxed);
    scene.write("interval: 2\n");
    scene.store.reload_if_changed();
    assert_eq!(scene.store.status().refusal, None);
    fs::remove_file(scene.dir.join("config.yaml")).unwrap();
    scene.store.reload_if_changed();
    let refusal = scene.store.status().refusal.unwrap();
    assert!(refusal.message.contains("cannot read"), "{refusal:?}");
}

#[test]
fn two_at_once_lose_neither() {
    let scene = Scene::new("metrics:\n  a: true\n  b: true\n");
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let scene = &scene;
            scope.spawn(move || {
                for n in 0..21 {
                    scene.switch(&[(name, n % 2 == 1)]).unwrap();
                }
            });
        }
    });
    assert_eq!(scene.text(), "metrics:\n  a: false\n  b: false\n");
    assert_eq!(scene.metrics(), list(&[("a", false), ("b", false)]));
}

#[test]
fn without_a_file_it_holds_in_memory() {
    let store = Store::open(Configuration::File(None), |p| p.answer(Ok(()))).unwrap();
    let changes = BTreeMap::from([("a".to_string(), false)]);
    let why = store
        .switch(&changes, &known(&["a", "b"]))
        .unwrap()
        .unwrap();
    assert!(why.contains("--config"), "{why}");
    assert_eq!(store.current().metrics.as_ref().unwrap().len(), 2);
    let gone = Store::open(Configuration::File(None), drop).unwrap();
    let outcome = gone.switch(&changes, &known(&["a"]));
    assert!(matches!(outcome, Err(NotSet::Failed(_))), "{outcome:?}");
}
