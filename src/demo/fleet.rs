//! A fleet of simulated boards with a config-server, in one process tree: this process is the server, and each board is a child
//! that runs this program as an exporter on a simulated board.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::{Kind, KINDS};
use crate::config_server;
use crate::sys::child;
use crate::sys::signals::Signals;
use crate::sys::stop::{Stop, Woken};

/// The most boards of a fleet: each takes some 6 MB.
pub const MAX_BOARDS: u32 = 200;
/// The address that the server listens on, if none is given: this machine alone reaches it.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";
/// The pause between the starts of two boards: a laptop's processors stay usable meanwhile.
const START_PAUSE: Duration = Duration::from_millis(20);
/// The interval at which ended boards are looked for.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The time that all boards have for their end, together.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a fleet of `boards` until a signal stops it.
pub fn run(boards: u32, listen_address: Option<String>, signals: &Signals) -> Result<(), String> {
    let place = Place::create(boards)?;
    let options = config_server::Options {
        store: Some(place.store().display().to_string()),
        listen_address: Some(listen_address.unwrap_or(DEFAULT_ADDRESS.to_string())),
        ..config_server::Options::default()
    };
    let mut fleet = None;
    let result = config_server::run(options, signals, |address| {
        fleet = Some(Fleet::start(&place, boards, address)?);
        Ok(())
    });
    // The boards end before their files are removed.
    drop(fleet);
    drop(place);
    result
}

/// The name of a board, by its number from 1.
fn name(number: u32) -> String {
    format!("edge-{number:02}")
}

/// The kind of a board, by its number from 1.
fn kind(number: u32) -> &'static Kind {
    let [first, ..] = &KINDS;
    let place = (number as usize).saturating_sub(1) % KINDS.len();
    KINDS.get(place).unwrap_or(first)
}

/// A temporary directory with the server's store and the boards' own files, which is removed on drop.
struct Place(PathBuf);

impl Place {
    fn create(boards: u32) -> Result<Place, String> {
        let dir = std::env::temp_dir().join(format!("edge-metrics-fleet-{}", std::process::id()));
        let write = || {
            // An existing directory is refused: another user may have created it to redirect our writes.
            fs::create_dir(&dir)?;
            let place = Place(dir.clone());
            fs::create_dir(place.store())?;
            for number in 1..=boards {
                let own = kind(number).configuration();
                let text = format!("device_type: auto\nconfig_poll: 10\n{own}");
                fs::write(place.store().join(format!("{}.yaml", name(number))), text)?;
            }
            Ok(place)
        };
        write().map_err(|e: std::io::Error| {
            format!("cannot build the fleet in {}: {e}", dir.display())
        })
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// The local configuration of all boards.
    fn local(&self) -> PathBuf {
        self.0.join("board.yaml")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// The running boards. They are ended on drop.
struct Fleet {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Fleet {
    fn start(place: &Place, boards: u32, server: SocketAddr) -> Result<Fleet, String> {
        let local = place.local();
        fs::write(
            &local,
            format!("config_server: {{url: \"http://{server}\"}}\n"),
        )
        .map_err(|e| format!("cannot write {}: {e}", local.display()))?;
        log::info!("fleet: {boards} simulated boards: open http://{server}/ (Prometheus discovers them at http://{server}/sd)");
        let stop = Arc::<Stop>::default();
        let stop_of_thread = Arc::clone(&stop);
        // The boards end when the thread that started them ends.
        let thread = std::thread::Builder::new()
            .name("fleet".to_string())
            .stack_size(256 * 1024)
            .spawn(move || keep(&local, boards, &stop_of_thread))
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(Fleet {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The body of the thread: starts the boards, and ends them when it is to stop.
fn keep(local: &Path, boards: u32, stop: &Stop) {
    let mut running = Vec::new();
    for number in 1..=boards {
        if stop.wait_until(Instant::now() + START_PAUSE) == Woken::Stop {
            break;
        }
        match start(local, number) {
            Ok(child) => running.push((number, child)),
            Err(why) => log::warn!("fleet: cannot start {}: {why}", name(number)),
        }
    }
    while stop.wait_until(Instant::now() + CHECK_INTERVAL) != Woken::Stop {
        running.retain_mut(|(number, child)| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                log::warn!("fleet: {} has ended: {status}", name(*number));
                false
            }
            // It is ended with the others.
            Err(_) => true,
        });
    }
    for (_, child) in &running {
        let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
    }
    let deadline = Instant::now() + END_TIMEOUT;
    for (_, mut child) in running {
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Without effect on one that has ended.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn start(local: &Path, number: u32) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([
            "demo",
            "--board",
            kind(number).name,
            "--name",
            &name(number),
        ])
        .arg("--config")
        .arg(local)
        .args(["--web.listen-address", "127.0.0.1:0"])
        .args(["--web.management-address", "127.0.0.1:0"])
        .args(["--log.level", "error"])
        .env_remove("CONFIG_SERVER_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    child::isolate(&mut command);
    command.spawn()
}
