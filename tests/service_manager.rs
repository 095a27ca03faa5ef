//! Notifications to the service manager.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use support::{exporter, get, on_board, Exporter, TempDir, WAIT_TIMEOUT};

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
fn service_manager_is_notified_of_start_reload_and_stop() {
    let board = TempDir::new();
    board.write("sys/class/thermal/thermal_zone0/type", "cpu\n");
    board.write("sys/class/thermal/thermal_zone0/temp", "41500\n");
    let config = board.write("config.yaml", "interval: 1\n");
    let path = board.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();

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
    let stays = "READY=1\nSTATUS=reads thermal; the configuration remains unchanged: ";
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

/// systemd passes sockets in the order of their units, which the user does not choose.
#[test]
fn inherited_sockets_are_matched_by_name() {
    let board = TempDir::new();
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [management, metrics] = sockets
        .each_ref()
        .map(|socket| socket.local_addr().unwrap());
    let [first, second] = sockets.map(|socket| Stdio::from(OwnedFd::from(socket)));

    let mut run = exporter();
    on_board(&mut run, board.path());
    let mut command = Command::new("sh");
    let script = "exec 3<&0 4<&1 </dev/null >&2; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    command.args(["-c", script]).arg(run.get_program());
    command.args(run.get_args());
    command
        .env_remove("LOCAL_CONFIG_PATH")
        .env("LISTEN_FDS", "2");
    command.env("LISTEN_FDNAMES", "management:metrics");
    command.stdin(first).stdout(second).stderr(Stdio::piped());
    let mut exporter = Exporter::start(&mut command);
    assert_eq!(exporter.address("metrics"), metrics);
    assert_eq!(exporter.address("management"), management);
    assert_eq!(get(metrics, "/metrics").status, 200);
    assert_eq!(get(management, "/metrics/list").status, 200);
    let (status, _, log) = exporter.stop();
    assert!(status.success(), "{log}");
}
