//! The UDP source with devices on real sockets: the requests, and the effect of each kind of reply.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
mod udp_support;

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use support::free_port::FreePort;
use support::{get, wait_until};
use udp_support::{
    after, asking, count, message, reading, wait_for_charge, wait_for_count, Device, CHARGE,
    CURRENT, LOCALHOST,
};

#[test]
fn requests_of_twelve_bytes_are_repeated_from_one_port() {
    let device = Device::new();
    let exporter = asking(&device);
    let first = device.answers(&after(1, 10.0));
    let second = device.answers(&after(2, 20.0));
    assert_eq!(first, second);
    device.is_asked();
    assert_eq!(exporter.value(CHARGE), Some(0.02));
    assert_eq!(exporter.value(CURRENT), Some(0.5));
    let amperes = "current_amperes{rail=\"device\",source=\"udp\"}";
    assert_eq!(exporter.value(amperes), Some(0.5));
    assert_eq!(
        exporter.value("power_total_watts"),
        None,
        "no voltage is known"
    );
    assert_eq!(count(&exporter, "accepted"), 2.0);
}

#[test]
fn nothing_is_exported_before_the_first_reply() {
    let device = Device::new();
    let exporter = asking(&device);
    device.is_asked();
    assert_eq!(exporter.value(CHARGE), None);
    assert_eq!(
        exporter.value("exporter_source_up{source=\"udp\"}"),
        Some(0.0)
    );
    for kind in ["accepted", "lost", "late", "foreign"] {
        assert_eq!(count(&exporter, kind), 0.0, "{kind}");
    }
}

#[test]
fn device_without_a_reply_is_degraded() {
    let silent = Device::new();
    let asked = format!("host: 127.0.0.1, port: {}, timeout: 0.2", silent.port());
    for settings in [&*asked, "mode: listen, port: 0, timeout: 0.2"] {
        let exporter = reading(settings);
        wait_until("it is called degraded", || {
            let health = get(exporter.management, "/health").text();
            health.contains("\"status\": \"degraded\"").then_some(())
        });
    }
}

/// Each of them changes nothing, and the request stays open for the reply.
#[test]
fn invalid_datagrams_are_counted_by_kind_and_ignored() {
    let device = Device::new();
    let exporter = asking(&device);
    device.answers(&after(100, 1000.0));
    wait_for_charge(&exporter, 1.0);
    let bad: [(&str, Vec<u8>); 9] = [
        ("truncated", after(101, 5000.0)[..12].to_vec()),
        ("truncated", vec![0x08]),
        ("malformed", b"DATA_REQUEST".to_vec()),
        ("malformed", vec![0x0f]),
        ("oversized", [after(101, 5000.0), vec![0; 1024]].concat()),
        ("oversized", vec![0x22; 60_000]),
        ("implausible", message(101, f64::NAN, 1.0)),
        ("implausible", message(101, -1.0, 1.0)),
        ("implausible", message(101, 5000.0, f32::INFINITY)),
    ];
    for (kind, datagram) in bad {
        let from = device.is_asked();
        let before = count(&exporter, kind);
        device.says(from, &datagram);
        wait_for_count(&exporter, kind, before + 1.0);
        assert_eq!(count(&exporter, kind), before + 1.0);
        assert_eq!(exporter.value(CHARGE), Some(1.0), "{kind}");
        assert_eq!(exporter.value(CURRENT), Some(0.5), "{kind}");
        device.says(from, &after(100, 1000.0));
    }
    device.is_asked();
    assert_eq!(count(&exporter, "accepted"), 10.0);
    assert_eq!(count(&exporter, "lost"), 0.0);
}

#[test]
fn replies_from_other_addresses_or_ports_are_ignored() {
    let port = FreePort::new();
    let device = Device::at(port.address());
    let exporter = asking(&device);
    let from = device.is_asked();
    let other_port = Device::new();
    let other_host = Device::at(SocketAddr::from(([127, 0, 0, 2], port.number())));
    for stranger in [&other_port, &other_host] {
        stranger.says(from, &after(1, 5000.0));
        stranger.says(from, b"");
        stranger.says(from, b"garbage");
    }
    wait_for_count(&exporter, "foreign", 6.0);
    assert_eq!(exporter.value(CHARGE), None);
    assert_eq!(count(&exporter, "malformed"), 0.0, "foreign comes first");
    device.says(from, &after(1, 1000.0));
    wait_for_charge(&exporter, 1.0);
}

#[test]
fn second_reply_to_one_request_is_a_duplicate() {
    let device = Device::new();
    let settings = format!("host: 127.0.0.1, port: {}, interval: 60", device.port());
    let exporter = reading(&settings);
    let from = device.answers(&after(1, 1000.0));
    wait_for_charge(&exporter, 1.0);
    device.says(from, &after(1, 1000.0));
    device.says(from, &after(2, 2000.0));
    device.says(from, b"garbage");
    wait_for_count(&exporter, "duplicated", 2.0);
    wait_for_count(&exporter, "malformed", 1.0);
    assert_eq!(exporter.value(CHARGE), Some(1.0));
    assert_eq!(count(&exporter, "accepted"), 1.0);
}

#[test]
fn timeout_repeats_the_request_and_the_late_reply_is_ignored() {
    let device = Device::new();
    // Otherwise the next request would follow after a day.
    let settings = format!(
        "host: 127.0.0.1, port: {}, interval: 86400, timeout: 2",
        device.port()
    );
    let exporter = reading(&settings);
    let first = device.is_asked();
    let second = device.is_asked();
    device.says(first, &after(1, 5000.0));
    device.says(second, &after(2, 1000.0));
    assert_ne!(first, second, "a port of its own");
    assert!(count(&exporter, "lost") >= 1.0);
    device.answers_until("the charge is 1 As", &after(2, 1000.0), || {
        exporter.value(CHARGE) == Some(1.0)
    });
    wait_for_count(&exporter, "late", 1.0);
    assert!(exporter.log().contains("does not answer within 2 s"));
}

#[test]
fn device_restart_keeps_the_total() {
    let device = Device::new();
    let exporter = asking(&device);
    for (answer, charge) in [
        (after(100, 304_000.0), 304.0),
        // The device's agent has restarted, and has no measurement yet.
        (Vec::new(), 304.0),
        (after(101, 305_000.0), 305.0),
        // The device itself has restarted.
        (message(1000, 500.0, 500.0), 305.5),
        (message(2000, 1500.0, 500.0), 306.5),
        (message(900, 250.0, 500.0), 306.75),
    ] {
        device.answers(&answer);
        wait_for_charge(&exporter, charge);
    }
    wait_for_count(&exporter, "accepted", 6.0);
    assert_eq!(count(&exporter, "reordered"), 0.0);
}

#[test]
fn older_message_is_not_taken_for_a_restart() {
    let device = Device::new();
    let exporter = asking(&device);
    device.answers(&after(100, 304_000.0));
    wait_for_charge(&exporter, 304.0);
    // A device with an uptime of 99 s has not restarted since the last message.
    let from = device.answers(&after(99, 303_000.0));
    wait_for_count(&exporter, "reordered", 1.0);
    device.says(from, &after(99, 304_000.0));
    wait_for_count(&exporter, "reordered", 2.0);
    assert_eq!(exporter.value(CHARGE), Some(304.0));
    device.says(from, &after(101, 305_000.0));
    wait_for_charge(&exporter, 305.0);
}

#[test]
fn empty_datagram_is_a_message_of_zeros() {
    let device = Device::new();
    let exporter = asking(&device);
    device.answers(b"");
    wait_for_charge(&exporter, 0.0);
    assert_eq!(exporter.value(CURRENT), Some(0.0));
    assert_eq!(count(&exporter, "accepted"), 1.0);
}

#[test]
fn device_is_read_again_after_an_absence() {
    let port = FreePort::new();
    let settings = format!("host: localhost, port: {}, timeout: 0.1", port.number());
    let exporter = reading(&settings);
    wait_for_count(&exporter, "lost", 2.0);
    let up = || exporter.value("exporter_source_up{source=\"udp\"}");
    for charge in [1.0, 2.0] {
        let device = Device::at(port.address());
        let answer = after(charge as u64, charge * 1000.0);
        device.answers_until("it is up, with its charge", &answer, || {
            up() == Some(1.0) && exporter.value(CHARGE) == Some(charge)
        });
        drop(device);
        wait_until("its values are gone", || {
            exporter.value(CHARGE).is_none().then_some(())
        });
        assert_eq!(up(), Some(0.0));
    }
}

#[test]
fn device_is_reachable_by_ipv6() {
    let Ok(probe) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return; // No IPv6 on this machine.
    };
    let device = Device::at(
        probe
            .local_addr()
            .map(|a| SocketAddr::new(a.ip(), 0))
            .unwrap(),
    );
    let exporter = asking(&device);
    device.answers(&after(1, 1000.0));
    wait_for_charge(&exporter, 1.0);
}

#[test]
fn voltage_setting_yields_power_and_energy() {
    let device = Device::new();
    let settings = format!("host: 127.0.0.1, port: {}, voltage: 5", device.port());
    let exporter = reading(&settings);
    device.answers(&after(1, 304_000.0));
    device.answers(&after(2, 306_000.0));
    wait_for_charge(&exporter, 306.0);
    let of = |name: &str| exporter.value(&format!("{name}{{rail=\"device\",source=\"udp\"}}"));
    assert_eq!(of("power_watts"), Some(2.5));
    assert_eq!(exporter.value("power_total_watts"), Some(2.5));
    // Two ampere-seconds at five volts, whatever time has passed: the device counts the charge.
    let joules = of("energy_joules_total").unwrap();
    assert!((joules - 10.0).abs() < 1e-6, "{joules}");
}

#[test]
fn stream_is_bound_to_its_first_sender() {
    let mut exporter = reading("mode: listen, port: 0, timeout: 60");
    let port = listening_port(&mut exporter);
    let to = SocketAddr::from((LOCALHOST, port));
    let (device, stranger) = (Device::new(), Device::new());
    stranger.says(to, b"garbage");
    wait_for_count(&exporter, "malformed", 1.0);
    device.says(to, &after(100, 1000.0));
    wait_for_charge(&exporter, 1.0);
    stranger.says(to, &after(200, 9000.0));
    wait_for_count(&exporter, "foreign", 1.0);
    device.says(to, &after(100, 1000.0));
    wait_for_count(&exporter, "duplicated", 1.0);
    device.says(to, &after(102, 3000.0));
    device.says(to, &after(101, 2000.0));
    wait_for_count(&exporter, "reordered", 1.0);
    assert_eq!(exporter.value(CHARGE), Some(3.0));
    device.says(to, &message(10, 500.0, 1.0));
    wait_for_charge(&exporter, 3.5);
    assert_eq!(count(&exporter, "accepted"), 3.0);
    assert_eq!(count(&exporter, "lost"), 0.0, "nothing was asked for");
}

#[test]
fn configured_host_is_the_only_accepted_sender_and_may_change_its_port_after_a_silence() {
    let mut exporter = reading("mode: listen, host: 127.0.0.1, port: 0, timeout: 0.5");
    let port = listening_port(&mut exporter);
    let to = SocketAddr::from((LOCALHOST, port));
    let other_host = Device::at(SocketAddr::from(([127, 0, 0, 2], 0)));
    other_host.says(to, &after(1, 9000.0));
    wait_for_count(&exporter, "foreign", 1.0);
    Device::new().says(to, &after(1, 1000.0));
    wait_for_charge(&exporter, 1.0);
    // The same device after a restart, on another port: ignored while the old port may still be in use.
    let restarted = Device::new();
    wait_until("the new port is believed", || {
        restarted.says(to, &message(1000, 500.0, 1.0));
        (exporter.value(CHARGE)? == 1.5).then_some(())
    });
}

#[test]
fn subscription_ends_with_a_nul_and_is_renewed_after_a_silence() {
    let device = Device::new();
    let settings = format!(
        "mode: subscribe, host: 127.0.0.1, port: {}, channel: 4, timeout: 0.5",
        device.port()
    );
    let exporter = reading(&settings);
    let (subscription, from) = device.hears();
    assert_eq!(subscription, b"4\0");
    for second in 1..=3 {
        device.says(from, &after(second, second as f64 * 1000.0));
        wait_for_charge(&exporter, second as f64);
    }
    Device::new().says(from, &after(9, 9000.0));
    wait_for_count(&exporter, "foreign", 1.0);
    assert_eq!(device.hears(), (b"4\0".to_vec(), from), "the same again");
    wait_for_count(&exporter, "lost", 1.0);
    device.says(from, &after(4, 4000.0));
    wait_for_charge(&exporter, 4.0);
}

/// A flood from other senders hides neither the reply nor its absence.
#[test]
fn flood_of_foreign_datagrams_hides_neither_reply_nor_timeout() {
    let device = Device::new();
    let settings = format!("host: 127.0.0.1, port: {}, timeout: 1", device.port());
    let exporter = reading(&settings);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let from = device.is_asked();
        let (stop, stranger) = (&stop, Device::new());
        scope.spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = stranger.0.send_to(&[0xff; 700], from);
            }
        });
        wait_for_count(&exporter, "foreign", 100.0);
        wait_until("the request is given up", || {
            (count(&exporter, "lost") >= 1.0).then_some(())
        });
        device.answers_until("the charge is 1 As", &after(1, 1000.0), || {
            exporter.value(CHARGE) == Some(1.0)
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn stop_request_ends_the_wait_for_a_reply() {
    let device = Device::new();
    let exporter = asking(&device);
    device.is_asked();
    let (status, took, log) = exporter.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("does not stop"), "{log}");
    // The source waits up to a minute for the reply.
    assert!(took.as_secs() < 30, "{took:?}");
}

fn listening_port(exporter: &mut support::Exporter) -> u16 {
    let line = exporter.wait_for_log("udp: listening on ");
    line.rsplit_once(':').unwrap().1.parse().unwrap()
}
