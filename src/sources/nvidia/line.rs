//! A line of `nvidia-smi --query-gpu=… --format=csv,noheader`.
//!
//! Fields are separated by a comma and a space, and have units: `0, 2, GPU-8f1c…, 72.34 W, 45, 12 %, NVIDIA RTX A4000`.
//! Values that a GPU does not have are in brackets: `[N/A]`, `[Not Supported]`. So are faults: `[Unknown Error]`, `[GPU is
//! lost]`, `[GPU requires reset]`; some fields have `ERR!` instead.

/// The fields of the query, in order. The name is last because it may contain commas.
///
/// Many versions of nvidia-smi do not know `total_energy_consumption`: see [`unknown_field`]. Its unit is not documented, so
/// values are requested with units, and this one is used only with a unit.
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
/// The limit on the number of GPUs. Real machines have fewer.
pub const MAX_GPUS: u32 = 64;
/// A value that nvidia-smi could not read.
const ERROR: &str = "ERR!";
/// The longest accepted name, in bytes.
const MAX_NAME: usize = 96;

/// The values of one GPU.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gpu<'a> {
    /// NVML's index, from 0.
    pub index: u32,
    /// The number of GPUs.
    pub count: u32,
    /// `GPU-…`
    pub uuid: Option<&'a str>,
    /// The product's name.
    pub name: Option<&'a str>,
    /// Power, in watts.
    pub watts: Option<f64>,
    /// Energy since the driver was loaded, in millijoules.
    pub millijoules: Option<u64>,
    /// Temperature, in degrees Celsius.
    pub celsius: Option<f64>,
    /// The part of the time in which the GPU was busy, from 0 to 1.
    pub load: Option<f64>,
    /// The part of the time in which its memory was accessed, from 0 to 1.
    pub memory_load: Option<f64>,
    /// The first field with a fault, and its text: `("power.draw", "[GPU is lost]")`.
    pub fault: Option<(&'a str, &'a str)>,
    /// The number of fields that were not understood.
    pub unparsed: u64,
}

/// Parses a line of a query for `fields`. `None`: the text is not such a line.
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
            INDEX => set(&mut gpu.index, whole(value).filter(|n| *n < MAX_GPUS)),
            COUNT => set(&mut gpu.count, whole(value).filter(|n| *n <= MAX_GPUS)),
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
    // Without its index a GPU cannot be identified.
    (gpu.index < gpu.count).then_some(gpu)
}

/// The field that this version of nvidia-smi reports as unknown. nvidia-smi then exits.
pub fn unknown_field(text: &str) -> Option<&str> {
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

/// Whether a value is a fault rather than a value that the GPU does not have.
fn is_fault(value: &str) -> bool {
    let contains = |word| value.to_ascii_lowercase().contains(word);
    let is_short = value.len() <= MAX_NAME && !value.chars().any(char::is_control);
    value == ERROR
        || is_in_brackets(value) && is_short && ["error", "lost", "reset"].into_iter().any(contains)
}

fn name(value: &str) -> Option<&str> {
    let is_name = value.len() <= MAX_NAME && !value.chars().any(char::is_control);
    is_name.then_some(value)
}

fn whole(value: &str) -> Option<u32> {
    let is_whole = value.bytes().all(|b| b.is_ascii_digit());
    is_whole.then(|| value.parse().ok()).flatten()
}

/// A plain decimal number with one of these units. `""` stands for no unit.
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
    fn all_fields_of_a_line_are_read() {
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
    fn value_in_brackets_is_absent() {
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
    fn fault_differs_from_an_unsupported_value() {
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
    fn invalid_field_is_counted_and_the_others_are_read() {
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
    fn other_text_is_no_line() {
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
    fn unknown_field_is_named() {
        let text = "Field \"total_energy_consumption\" is not a valid field to query.\n";
        assert_eq!(unknown_field(text), Some("total_energy_consumption"));
        assert_eq!(unknown_field(LINE), None);
        assert_eq!(unknown_field("Field \"x\" is missing"), None);
    }
}
