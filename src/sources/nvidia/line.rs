//! A line of `nvidia-smi --query-gpu=… --format=csv,noheader`. Pure.
//!
//! Its fields are separated by a comma and a blank, and come with their units: `0, 2, GPU-8f1c…, 72.34 W, 45, 12 %, NVIDIA
//! RTX A4000`. What a GPU does not tell is in brackets: `[N/A]`, `[Not Supported]`. So is why it cannot be asked:
//! `[Unknown Error]`, `[GPU is lost]`, `[GPU requires reset]`; in other places that is `ERR!`.

/// What is asked for, in this order: in each line the name is last, since it may have commas in it.
///
/// `total_energy_consumption` is unknown to many versions of nvidia-smi: see [`refused`]. We know of no document that gives
/// its unit, therefore units are asked for and it counts only with one.
pub const FIELDS: [&str; 9] = [
    INDEX,
    COUNT,
    "uuid",
    "power.draw",
    "total_energy_consumption",
    "temperature.gpu",
    "utilization.gpu",
    "utilization.memory",
    "name",
];

const INDEX: &str = "index";
const COUNT: &str = "count";
/// More GPUs than a machine has.
pub const MOST_GPUS: u32 = 64;
/// How nvidia-smi shows a value that it could not get.
const ERROR: &str = "ERR!";
/// The longest name that is taken, in bytes.
const LONGEST: usize = 96;

/// What a line says of a GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gpu<'a> {
    /// Which it is, from 0: NVML's index.
    pub index: u32,
    /// How many there are.
    pub count: u32,
    /// `GPU-…`
    pub uuid: Option<&'a str>,
    /// What it is called.
    pub name: Option<&'a str>,
    /// Power, in watts.
    pub watts: Option<f64>,
    /// Energy since the driver was loaded, in millijoules.
    pub millijoules: Option<u64>,
    /// In degrees Celsius.
    pub celsius: Option<f64>,
    /// The part of the time in which it was at work, from 0 to 1.
    pub load: Option<f64>,
    /// The same of its memory.
    pub memory_load: Option<f64>,
    /// The first field that tells of a fault, and what it says: `("power.draw", "[GPU is lost]")`.
    pub fault: Option<(&'a str, &'a str)>,
    /// Fields that were not understood.
    pub unparsed: u64,
}

/// Reads the answer to a query for `fields`. `None`: it is none.
pub fn parse<'a>(fields: &[&'static str], text: &'a str) -> Option<Gpu<'a>> {
    let values: Vec<&str> = text.trim().splitn(fields.len(), ',').collect();
    if values.len() != fields.len() {
        return None;
    }
    let mut gpu = Gpu {
        index: u32::MAX,
        ..Gpu::default()
    };
    for (field, value) in fields.iter().zip(values) {
        let value = value.trim();
        if gpu.fault.is_none() && is_fault(value) {
            gpu.fault = Some((*field, value));
        }
        let is_known = match *field {
            _ if is_absent(value) => true,
            INDEX => set(&mut gpu.index, whole(value).filter(|n| *n < MOST_GPUS)),
            COUNT => set(&mut gpu.count, whole(value).filter(|n| *n <= MOST_GPUS)),
            "uuid" => take(&mut gpu.uuid, name(value)),
            "name" => take(&mut gpu.name, name(value)),
            "power.draw" => take(&mut gpu.watts, number(value, &["W", ""])),
            "total_energy_consumption" => take(&mut gpu.millijoules, millijoules(value)),
            "temperature.gpu" => take(&mut gpu.celsius, number(value, &["C", ""])),
            "utilization.gpu" => take(&mut gpu.load, ratio(value)),
            "utilization.memory" => take(&mut gpu.memory_load, ratio(value)),
            _ => false,
        };
        gpu.unparsed += u64::from(!is_known);
    }
    // One without a number cannot be told from another.
    (gpu.index < gpu.count).then_some(gpu)
}

/// The field that this driver's nvidia-smi does not know: it says so, and ends.
pub fn refused(text: &str) -> Option<&str> {
    let rest = text.trim().strip_prefix("Field \"")?;
    let (field, rest) = rest.split_once('"')?;
    rest.starts_with(" is not a valid field").then_some(field)
}

fn set<T>(target: &mut T, value: Option<T>) -> bool {
    let is_known = value.is_some();
    if let Some(value) = value {
        *target = value;
    }
    is_known
}

fn take<T>(target: &mut Option<T>, value: Option<T>) -> bool {
    *target = value;
    target.is_some()
}

fn is_absent(value: &str) -> bool {
    value.is_empty() || value == "N/A" || value == ERROR || is_in_brackets(value)
}

fn is_in_brackets(value: &str) -> bool {
    value.starts_with('[') && value.ends_with(']')
}

/// Whether it says that the GPU is not well, rather than that it has no such value.
fn is_fault(value: &str) -> bool {
    let says = |what| value.to_ascii_lowercase().contains(what);
    let is_short = value.len() <= LONGEST && !value.chars().any(char::is_control);
    value == ERROR
        || is_in_brackets(value) && is_short && ["error", "lost", "reset"].into_iter().any(says)
}

fn name(value: &str) -> Option<&str> {
    let is_name = value.len() <= LONGEST && !value.chars().any(char::is_control);
    is_name.then_some(value)
}

fn whole(value: &str) -> Option<u32> {
    let is_whole = value.bytes().all(|b| b.is_ascii_digit());
    is_whole.then(|| value.parse().ok()).flatten()
}

/// A plain decimal number with one of these units; `""` is none.
fn number(value: &str, units: &[&str]) -> Option<f64> {
    let is_plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
    let end = value.find(|c| !is_plain(c)).unwrap_or(value.len());
    let (digits, unit) = value.split_at(end);
    let number: f64 = digits.parse().ok()?;
    (number.is_finite() && units.contains(&unit.trim())).then_some(number)
}

fn ratio(value: &str) -> Option<f64> {
    Some(number(value, &["%", ""])? / 100.0)
}

fn millijoules(value: &str) -> Option<u64> {
    let (number, unit) = value.split_once(' ')?;
    let is_whole = number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = is_whole.then(|| number.parse().ok()).flatten()?;
    match unit.trim() {
        "mJ" => Some(number),
        "J" => number.checked_mul(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "1, 2, GPU-8f1c6a3e-0c5d-4a7e-9a53-3f0f5a1d7b11, 72.34 W, 123456 mJ, 45, 12 %, 3 %, NVIDIA RTX A4000";

    #[test]
    fn a_line_with_all_fields() {
        let gpu = Gpu {
            index: 1,
            count: 2,
            uuid: Some("GPU-8f1c6a3e-0c5d-4a7e-9a53-3f0f5a1d7b11"),
            name: Some("NVIDIA RTX A4000"),
            watts: Some(72.34),
            millijoules: Some(123_456),
            celsius: Some(45.0),
            load: Some(0.12),
            memory_load: Some(0.03),
            fault: None,
            unparsed: 0,
        };
        assert_eq!(parse(&FIELDS, LINE), Some(gpu));
        let without_units = LINE.replace(" W", "").replace(" %", "");
        assert_eq!(parse(&FIELDS, &without_units), Some(gpu));
        let with_comma = LINE.replace("A4000", "A4000, Ada");
        let name = parse(&FIELDS, &with_comma).unwrap().name;
        assert_eq!(name, Some("NVIDIA RTX A4000, Ada"));
    }

    #[test]
    fn what_a_gpu_does_not_tell_is_absent() {
        let line =
            "0, 1, [N/A], [Not Supported], [Unknown Error], N/A, [GPU requires reset], , [N/A]";
        let gpu = Gpu {
            count: 1,
            fault: Some(("total_energy_consumption", "[Unknown Error]")),
            ..Gpu::default()
        };
        assert_eq!(parse(&FIELDS, line), Some(gpu));
    }

    #[test]
    fn a_fault_is_told_from_what_a_gpu_does_not_have() {
        for (value, is_fault) in [
            ("[N/A]", false),
            ("[Not Supported]", false),
            ("[Insufficient Permissions]", false),
            ("", false),
            ("72.34 W", false),
            ("[Unknown Error]", true),
            ("[GPU is lost]", true),
            ("[GPU requires reset]", true),
            ("ERR!", true),
        ] {
            let line = LINE.replace("72.34 W", value);
            let gpu = parse(&FIELDS, &line).unwrap();
            let fault = is_fault.then_some(("power.draw", value));
            assert_eq!((gpu.fault, gpu.unparsed), (fault, 0), "{value}");
        }
    }

    #[test]
    fn what_is_not_understood_is_counted_and_costs_nothing_else() {
        for (from, to) in [
            ("72.34 W", "72.34 mW"),
            ("72.34 W", "7e1 W"),
            ("72.34 W", "inf W"),
            ("72.34 W", "-"),
            ("123456 mJ", "123456"),
            ("123456 mJ", "1.5 mJ"),
            ("123456 mJ", "99999999999999999999 mJ"),
            ("45,", "45 F,"),
            ("12 %", "12 %%"),
        ] {
            let line = LINE.replace(from, to);
            let gpu = parse(&FIELDS, &line).unwrap();
            assert_eq!(gpu.unparsed, 1, "{to}");
            let all = [gpu.watts, gpu.celsius, gpu.load, gpu.memory_load];
            let known = all.iter().flatten().count() + usize::from(gpu.millijoules.is_some());
            assert_eq!(known, 4, "{to}");
        }
    }

    #[test]
    fn what_is_no_line_is_none() {
        for text in [
            "",
            "No devices were found",
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
            "index, count, uuid, power.draw [W], total_energy_consumption [mJ], a, b, c, name",
            "0, 0, , , , , , , ",
            "2, 2, , , , , , , ",
            "-1, 2, , , , , , , ",
            "64, 65, , , , , , , ",
            "[N/A], [N/A], , , , , , , ",
        ] {
            assert_eq!(parse(&FIELDS, text), None, "{text}");
        }
    }

    #[test]
    fn a_field_that_is_refused_is_named() {
        let text = "Field \"total_energy_consumption\" is not a valid field to query.\n";
        assert_eq!(refused(text), Some("total_energy_consumption"));
        assert_eq!(refused(LINE), None);
        assert_eq!(refused("Field \"x\" is missing"), None);
    }
}
