//! The rounds are run by hand here: what a round does not do can only be seen when it is over.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::metrics::Desc;
use crate::store::{ConfigSource, Store};
use crate::sys::temp_dir::TempDir;

/// An exporter whose configuration is this file, and the metrics `a_watts` and `b_watts`.
struct Board {
    dir: TempDir,
    housekeeping: Housekeeping,
}

impl Board {
    fn new(text: &str) -> Board {
        let dir = TempDir::new();
        let file = dir.write("config.yaml", text);
        let store = Store::open(ConfigSource::File(Some(file)), |p| p.answer(Ok(())));
        let exporter = Arc::new(Exporter::new(Arc::new(store.unwrap())));
        let board = Board {
            dir,
            housekeeping: Housekeeping::new(exporter),
        };
        board.finds(&["a_watts", "b_watts"]);
        board
    }

    fn finds(&self, names: &[&'static str]) {
        let registry = &self.housekeeping.exporter.registry;
        let group = registry.add_group(0, "test", Vec::new());
        for name in names {
            group.series(&Desc::gauge(*name, "x"), &[]);
        }
    }

    /// More rounds than any decision takes.
    fn rounds(&mut self) {
        for _ in 0..2 * MAX_UNSETTLED_ROUNDS {
            self.housekeeping.check();
        }
    }

    fn interval(&self) -> Duration {
        self.housekeeping.exporter.store.current().interval
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("config.yaml")).unwrap()
    }
}

#[test]
fn watched_file_is_reloaded_when_it_changes() {
    let mut board = Board::new("watch: true\ninterval: 2\n");
    board.rounds();
    board
        .dir
        .write("config.yaml", "watch: true\ninterval: 30\n");
    board.rounds();
    assert_eq!(board.interval(), Duration::from_secs(30));
}

#[test]
fn file_change_without_watch_does_not_reload() {
    let mut board = Board::new("interval: 2\n");
    board.rounds();
    board.dir.write("config.yaml", "interval: 30\n");
    board.rounds();
    assert_eq!(board.interval(), Duration::from_secs(2));
}

#[test]
fn found_metrics_are_added_to_the_file_once() {
    let mut board = Board::new("metrics:\n  a_watts: true # this\n");
    board.rounds();
    let text = board.text();
    assert_eq!(text, "metrics:\n  a_watts: true # this\n  b_watts: false\n");
    // A file that is written again is another one.
    let file = board.dir.path().join("config.yaml");
    let inode = || std::fs::metadata(&file).unwrap().ino();
    let before = inode();
    board.rounds();
    assert_eq!(inode(), before);
    board.finds(&["c_watts"]);
    board.rounds();
    assert_eq!(board.text(), text + "  c_watts: false\n");
}

#[test]
fn without_metrics_in_the_file_found_metrics_are_not_added() {
    let mut board = Board::new("interval: 2\n");
    board.rounds();
    assert_eq!(board.text(), "interval: 2\n");
}
