//! A board that is read in this process: its sources run, and nothing is served or sent. The caller reads what they publish.

use std::sync::Arc;

use super::supervisor::{Options, Supervisor};
use crate::config::Config;
use crate::exposition::Format;
use crate::http::{AccessControl, AccessFiles};
use crate::metrics::Registry;
use crate::sources::io_log::IoLogs;
use crate::sources::{Roots, RunningSource};
use crate::store::{ConfigSource, Store};

/// The running sources of a board. They end with it.
pub struct LocalBoard {
    supervisor: Supervisor,
}

impl LocalBoard {
    /// The configuration from where `run` would have it, except that no central server is asked.
    pub fn configuration(source: ConfigSource) -> Result<Config, String> {
        let store = Store::open(source, |proposal| proposal.answer(Ok(())))?;
        Ok((*store.current()).clone())
    }

    /// Starts the sources of the board below these roots. Of the configuration only what concerns sources counts, how long
    /// samples are kept, and whether there are metrics of the exporter itself.
    pub fn start(roots: Roots, config: Config, io_logs: IoLogs) -> Result<LocalBoard, String> {
        let config = Config {
            history: config.history.clone(),
            self_metrics: config.self_metrics,
            ..config.only_source_settings()
        };
        let configuration = ConfigSource::BuiltIn(Box::new(config.clone()));
        let store = Store::open(configuration.clone(), |proposal| proposal.answer(Ok(())))?;
        let options = Options {
            configuration,
            listen_address: None,
            management_address: None,
            access: AccessFiles::default(),
            roots,
            io_logs,
            asks_server: false,
        };
        let mut supervisor = Supervisor::new(options, AccessControl::open(), Arc::new(store));
        supervisor.apply(config);
        Ok(LocalBoard { supervisor })
    }

    /// The series of all sources, with their last values and their histories.
    pub fn registry(&self) -> &Arc<Registry> {
        self.supervisor.registry()
    }

    /// The running sources, with their health.
    pub fn sources(&self) -> Arc<[Arc<RunningSource>]> {
        self.supervisor.sources()
    }

    /// Restarts sources that hang. To be called several times a second.
    pub fn restart_hung_sources(&self) {
        self.supervisor.restart_hung_sources();
    }

    /// All metrics, as `/metrics` would have them. No meter is read.
    pub fn scrape(&self, format: Format) -> String {
        self.supervisor.scrape(format)
    }

    /// Stops the sources, and returns their names. What they published stays readable.
    pub fn stop_sources(&self) -> Vec<String> {
        self.supervisor.stop_sources()
    }
}

impl Drop for LocalBoard {
    fn drop(&mut self) {
        self.stop_sources();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Cursor, Rows};
    use std::path::Path;
    use std::time::Duration;

    #[test]
    fn sources_run_without_ports_and_keep_their_samples() {
        let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards/ina226_hwmon");
        let roots = Roots {
            sysfs: board.join("sys"),
            procfs: board.join("proc"),
            dev: board.join("dev"),
            programs: Some(board.join("bin")),
        };
        let config = Config {
            interval: Duration::from_millis(1),
            ..Config::default()
        };
        let local = LocalBoard::start(roots, config, IoLogs::Off).unwrap();
        let group = loop {
            let groups = local.registry().groups().into_iter();
            let mut read = groups.filter(|g| g.source != "exporter" && g.read_at().is_some());
            match read.next() {
                Some(group) => break group,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let mut rows = Rows::default();
        assert!(group.history().read(&mut Cursor::default(), &mut rows));
        let text = local.scrape(Format::Text);
        assert!(text.contains("exporter_source_up"), "{text}");
        let names = local.stop_sources();
        assert!(names.contains(&group.source), "{names:?}");
        let stopped_at = group.read_at();
        drop(local);
        assert_eq!(group.read_at(), stopped_at);
    }
}
