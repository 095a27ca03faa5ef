//! A board whose configuration is changed while it runs.
#![allow(dead_code)]

use crate::support::{
    exporter, get, on_board, post, request, wait_until, Answer, Exporter, TempDir,
};

pub(crate) const LABELS: &str = "{device_type=\"generic\",hostname=\"edge-01\"";
pub(crate) const TEMPERATURE: &str = "temperature_celsius{device_type=\"generic\",hostname=\"edge-01\",sensor=\"cpu\",source=\"thermal\"}";
pub(crate) const ENERGY: &str = "energy_joules_total{device_type=\"generic\",hostname=\"edge-01\",rail=\"usb\",source=\"power_supply\"}";

/// A board with a supply and a thermal zone, and a configuration.
pub(crate) struct Board {
    pub(crate) dir: TempDir,
    pub(crate) exporter: Exporter,
}

impl Board {
    pub(crate) fn start(config: &str) -> Board {
        let dir = TempDir::new();
        dir.write("proc/sys/kernel/hostname", "edge-01\n");
        for (file, content) in [
            ("type", "USB\n"),
            ("online", "1\n"),
            ("voltage_now", "5000000\n"),
            ("current_now", "2000000\n"),
        ] {
            dir.write(&format!("sys/class/power_supply/usb/{file}"), content);
        }
        dir.write("sys/class/thermal/thermal_zone0/type", "cpu\n");
        dir.write("sys/class/thermal/thermal_zone0/temp", "41500\n");
        let config = dir.write("etc/config.yaml", config);
        let mut command = exporter();
        on_board(&mut command, dir.path());
        let exporter = Exporter::start(command.arg("--config").arg(config));
        let board = Board { dir, exporter };
        wait_until("all sources are read", || {
            let health = board.health();
            // Before the first source has started, a board counts as healthy.
            let there = health["sources"].as_array().unwrap().len() == 2;
            (there && health["status"] == "healthy").then_some(())
        });
        board
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        get(self.exporter.management, path)
    }

    pub(crate) fn health(&self) -> serde_json::Value {
        serde_json::from_slice(&self.get("/health").body).unwrap()
    }

    pub(crate) fn enable(&self, body: &str) -> serde_json::Value {
        let answer = post(self.exporter.management, "/metrics/enable", body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub(crate) fn reload(&self) -> Answer {
        request(self.exporter.management, "POST", "/reload", &[])
    }

    pub(crate) fn write(&self, config: &str) {
        self.dir.write("etc/config.yaml", config);
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("etc/config.yaml")).unwrap()
    }

    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        self.exporter.value(series)
    }

    pub(crate) fn waits_for_text(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        wait_until(what, || Some(self.text()).filter(|text| is_so(text)))
    }
}
