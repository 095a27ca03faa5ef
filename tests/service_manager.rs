//! What a service manager hears of the exporter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use support::{exporter, on_board, Exporter, TempDir, PATIENCE};

struct Manager(UnixDatagram);

impl Manager {
    /// The next message that is not about the watchdog.
    fn hears(&self) -> String {
        loop {
            let message = self.hears_anything();
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }

    fn hears_anything(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[test]
fn a_service_manager_is_told_of_start_reload_and_end() {
    let board = TempDir::new();
    board.write("sys/class/thermal/thermal_zone0/type", "cpu\n");
    board.write("sys/class/thermal/thermal_zone0/temp", "41500\n");
    let config = board.write("config.yaml", "interval: 1\n");
    let path = board.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();

    let mut command = exporter();
    on_board(&mut command, board.path());
    command.arg("--config").arg(&config);
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "100000");
    command.env_remove("WATCHDOG_PID");
    let mut exporter = Exporter::start(&mut command);
    let pid = Pid::from_raw(exporter.child.id() as i32);
    assert_eq!(manager.hears(), "READY=1\nSTATUS=reads thermal");
    while manager.hears_anything() != "WATCHDOG=1" {}

    board.write("config.yaml", "interval: [\n");
    kill(pid, Signal::SIGHUP).unwrap();
    assert!(manager.hears().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    let ready = manager.hears();
    let stays = "READY=1\nSTATUS=reads thermal; the configuration stays as it was: ";
    assert!(ready.starts_with(stays), "{ready}");

    board.write("config.yaml", "sources: [hwmon]\n");
    kill(pid, Signal::SIGHUP).unwrap();
    assert!(manager.hears().starts_with("RELOADING=1\n"));
    assert_eq!(
        manager.hears(),
        "READY=1\nSTATUS=nothing to read on this board"
    );

    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(manager.hears(), "STOPPING=1\nSTATUS=stopping");
    assert!(exporter.child.wait().unwrap().success());
}
