//! What `doctor --probe-i2c` has found, as text, as JSON, and for a configuration.

use std::fmt::Write;

use serde_json::{json, Value};

use crate::config::Config;
use crate::sources::i2c_search::{Answer, SearchedBus};
use crate::sources::ina260::settings::{Ina260Chip, Settings};
use crate::sys::wrap::{wrap, wrap_with};

/// Writes what was found on each bus, and what would have it read.
pub(super) fn write(out: &mut String, buses: &[SearchedBus]) {
    out.push_str("\nPower monitors on I2C (--probe-i2c), at 0x40 to 0x4f:\n");
    if buses.is_empty() {
        wrap(
            out,
            "    ",
            "there is no bus: `modprobe i2c-dev`; on a Raspberry Pi `dtparam=i2c_arm=on` in config.txt besides",
        );
    }
    for bus in buses {
        let adapter = bus.adapter.as_deref().unwrap_or("unknown adapter");
        let name = format!("{} ({adapter}):", bus.device.display());
        let state = match (&bus.error, bus.answers.is_empty()) {
            (Some(why), true) => why,
            (None, true) => "no chip answers",
            (_, false) => "",
        };
        wrap_with(out, "", "    ", &format!("{name} {state}"));
        if let (Some(why), false) = (&bus.error, bus.answers.is_empty()) {
            wrap(out, "    ! ", why);
        }
        for (address, answer) in &bus.answers {
            write_answer(out, bus.number, *address, answer);
        }
    }
}

fn write_answer(out: &mut String, bus: u32, address: u8, answer: &Answer) {
    wrap(out, &format!("    {address:#04x}  "), &answer.description());
    for setting in answer.settings(bus, address) {
        let (section, item) = (setting.section, setting.item);
        if !setting.note.is_empty() {
            wrap_with(
                out,
                "          # ",
                "          # ",
                &format!("{}:", setting.note),
            );
        }
        wrap_with(
            out,
            "          ",
            "            ",
            &format!("{section}: {{chips: [{item}]}}"),
        );
    }
    if let Some(command) = answer.kernel_driver(bus, address) {
        // In one line, so that it can be copied.
        out.push_str("          or the kernel's own driver, which is better:\n");
        let _ = writeln!(out, "            {command}");
    }
}

/// The same as JSON.
pub(super) fn json(buses: &[SearchedBus]) -> Value {
    let answer = |bus: u32, (address, answer): &(u8, Answer)| {
        let settings = answer.settings(bus, *address).into_iter();
        let settings: Vec<_> = settings
            .map(|setting| json!({"section": setting.section, "chip": setting.item, "note": setting.note}))
            .collect();
        json!({
            "address": address,
            "chip": match answer {
                Answer::Chip(kind) => Some(*kind),
                _ => None,
            },
            "detail": answer.description(),
            "settings": settings,
            "kernel_driver": answer.kernel_driver(bus, *address),
        })
    };
    let bus = |bus: &SearchedBus| {
        let answers = bus.answers.iter().map(|found| answer(bus.number, found));
        let was_asked = bus.error.is_none() || !bus.answers.is_empty();
        json!({
            "bus": bus.device,
            "adapter": bus.adapter,
            "error": bus.error,
            "answers": was_asked.then(|| answers.collect::<Vec<_>>()),
        })
    };
    buses.iter().map(bus).collect()
}

/// Adds the INA260 that were found to a configuration that has none. The others need to be looked at: they are returned as
/// comments.
pub(super) fn configure(config: &mut Config, buses: &[SearchedBus]) -> String {
    let mut found = Vec::new();
    for bus in buses {
        for (address, answer) in &bus.answers {
            found.push((bus.number, *address, answer));
        }
    }
    let settings: Settings = config.meter();
    if settings.chips.is_empty() {
        let mut chips = Vec::new();
        found.retain(|(bus, address, answer)| {
            let is_ina260 = **answer == Answer::Chip("INA260");
            if is_ina260 {
                chips.push(Ina260Chip {
                    bus: *bus,
                    address: *address,
                    ..Ina260Chip::default()
                });
            }
            !is_ina260
        });
        if !chips.is_empty() {
            let settings = Settings { chips, ..settings };
            config.meters.set(settings);
        }
    }
    let mut out = String::new();
    for section in ["ina260", "ina2xx"] {
        let mut heading =
            format!("# Found on I2C; of each chip, take the # away from one line:\n#{section}:\n#  chips:\n");
        for (bus, address, answer) in &found {
            for setting in answer.settings(*bus, *address) {
                if setting.section == section {
                    out.push_str(&std::mem::take(&mut heading));
                    let note = match setting.note {
                        "" => answer.description(),
                        note => format!("{}; {note}", answer.description()),
                    };
                    let _ = writeln!(out, "#    - {}   # {note}", setting.item);
                }
            }
        }
    }
    out
}
