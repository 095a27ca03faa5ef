//! The board: where its files are, its model and its host name.

use std::path::PathBuf;
use std::sync::Arc;

use super::attribute::read_text;
use super::health::Health;
use super::io_log::IoLog;

/// The directories below which the board's files are. Tests put a fixture board there (like node_exporter's
/// `--path.sysfs`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// `/sys`
    pub sysfs: PathBuf,
    /// `/proc`
    pub procfs: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
    /// The only folder with programs to run. `None`: programs are found by the configuration and `PATH`.
    pub programs: Option<PathBuf>,
}

impl Default for Roots {
    fn default() -> Self {
        Roots {
            sysfs: "/sys".into(),
            procfs: "/proc".into(),
            dev: "/dev".into(),
            programs: None,
        }
    }
}

/// The board the exporter runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// Where the board's files are.
    pub roots: Roots,
    /// The device tree's model or the DMI product name.
    pub model: Option<String>,
    /// The host name, or `localhost`.
    pub hostname: String,
    /// The devices and rails that the meters selected so far read. More general meters, which are selected later, do not
    /// read them.
    pub claims: Claims,
    /// The I/O log of everything that is read before there are sources.
    pub io_log: IoLog,
}

/// The devices and rails that a meter reads and a more general meter would find, too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// Devices, by the canonical paths of their folders in sysfs.
    pub devices: Vec<PathBuf>,
    /// Rails, by name.
    pub rails: Vec<String>,
}

impl Claims {
    /// Adds the claims of another meter.
    pub fn add(&mut self, more: Claims) {
        self.devices.extend(more.devices);
        self.rails.extend(more.rails);
    }
}

impl Board {
    /// Reads the board's model and host name.
    pub fn detect(roots: Roots) -> Board {
        Board::detect_with(roots, IoLog::default())
    }

    /// As [`Board::detect`], recorded in or replayed from an I/O log.
    pub fn detect_with(roots: Roots, io_log: IoLog) -> Board {
        let health = Arc::new(Health::with_io_log(io_log.clone()));
        let text = |path: PathBuf| {
            read_text(&health, &path)
                .ok()
                // A device tree's string ends in a NUL.
                .map(|s| s.trim_matches(['\0', ' ']).to_string())
                .filter(|s| !s.is_empty())
        };
        let model = text(roots.procfs.join("device-tree/model"))
            .or_else(|| text(roots.sysfs.join("firmware/devicetree/base/model")))
            .or_else(|| text(roots.sysfs.join("class/dmi/id/product_name")));
        let hostname = text(roots.procfs.join("sys/kernel/hostname"));
        Board {
            roots,
            model,
            hostname: hostname.unwrap_or_else(|| "localhost".to_string()),
            claims: Claims::default(),
            io_log,
        }
    }

    /// A health for reading the board's files before there is a source.
    pub fn health(&self) -> Arc<Health> {
        Arc::new(Health::for_probe(self.io_log.clone()))
    }

    /// The device type of the model, for `device_type: auto`.
    pub fn device_type(&self) -> &'static str {
        let model = self.model.as_deref().unwrap_or("").to_lowercase();
        let is = |word: &str| model.contains(word);
        if is("jetson") || is("nvidia") && (is("orin") || is("xavier") || is("thor")) {
            match () {
                _ if is("thor") => "jetson_thor",
                _ if is("orin") => "jetson_orin",
                _ if is("xavier") => "jetson_xavier",
                _ if is("nano") => "jetson_nano",
                _ => "jetson",
            }
        } else if is("raspberry pi") {
            "raspberry_pi"
        } else if is("orange pi") || is("orangepi") {
            "orange_pi"
        } else if is("lattepanda") {
            "lattepanda"
        } else if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
            "x86"
        } else {
            "generic"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_type_follows_from_the_model() {
        for (model, device_type) in [
            ("NVIDIA Jetson AGX Orin Developer Kit", "jetson_orin"),
            ("NVIDIA Orin Nano Developer Kit", "jetson_orin"),
            ("Jetson-AGX", "jetson"),
            ("NVIDIA Jetson Xavier NX Developer Kit", "jetson_xavier"),
            ("NVIDIA Jetson Nano Developer Kit", "jetson_nano"),
            ("NVIDIA Jetson AGX Thor Developer Kit", "jetson_thor"),
            (
                "quill",
                if cfg!(target_arch = "x86_64") {
                    "x86"
                } else {
                    "generic"
                },
            ),
            ("Raspberry Pi 5 Model B Rev 1.0", "raspberry_pi"),
            ("OrangePi Zero2", "orange_pi"),
            ("Xunlong Orange Pi 5 Plus", "orange_pi"),
            ("LattePanda 3 Delta", "lattepanda"),
        ] {
            let board = Board {
                roots: Roots::default(),
                model: Some(model.to_string()),
                hostname: String::new(),
                claims: Claims::default(),
                io_log: IoLog::default(),
            };
            assert_eq!(board.device_type(), device_type, "{model}");
        }
    }
}
