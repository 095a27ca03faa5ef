//! The values in a line.

use super::token;

/// Memory in kB. All units in a line are multiples of 1024 bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// The memory in use.
    pub used_kb: f64,
    /// All memory.
    pub total_kb: f64,
}

/// Free blocks of one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blocks {
    /// The number of blocks.
    pub count: f64,
    /// The size of each in kB.
    pub size_kb: f64,
}

/// A core of the processor.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Core {
    /// Whether the core is powered. `None`: its text was not understood.
    pub on: Option<bool>,
    /// The core's load.
    pub load: Load,
}

/// Load in percent and frequency in MHz.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Percent of the time, at the current frequency.
    pub percent: Option<f64>,
    /// Frequency in MHz.
    pub mhz: Option<f64>,
}

/// An engine such as NVENC, VIC or APE.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Engine<'a> {
    /// The engine's name, without `_FREQ`.
    pub name: &'a str,
    /// Whether the engine is powered.
    pub on: bool,
    /// The engine's load.
    pub load: Load,
}

/// The power of a rail in milliwatts. It may be negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Power<'a> {
    /// The rail's name.
    pub name: &'a str,
    /// The current power.
    pub milliwatts: f64,
    /// The average since tegrastats was started.
    pub average: Option<f64>,
    /// The maximum since tegrastats was started.
    pub maximum: Option<f64>,
}

impl Load {
    /// Parses `7%@1600`, `7%`, `@1600`. An engine with several units has `[10%,20%]@1600`, `[10%@1600,off]` or
    /// `10%@[1600,1600]`: the result is the mean load of the units that are on, and the highest frequency.
    pub(super) fn parse(text: &str) -> Option<Load> {
        if let Some((list, after)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
            return Load::of_units(list, after);
        }
        let (percent, mhz) = match text.split_once('@') {
            Some((percent, mhz)) => (percent, Some(highest(mhz)?)),
            None => (text, None),
        };
        let percent = match percent {
            "" => None,
            _ => Some(token::percent(percent)?),
        };
        (percent.is_some() || mhz.is_some()).then_some(Load { percent, mhz })
    }

    fn of_units(list: &str, after: &str) -> Option<Load> {
        let shared = match after.strip_prefix('@') {
            Some(mhz) => Some(highest(mhz)?),
            None if after.is_empty() => None,
            None => return None,
        };
        let (mut sum, mut units, mut mhz) = (0.0, 0, shared);
        for unit in list.split(',').map(str::trim) {
            if token::is_off(unit) {
                continue;
            }
            let (percent, own) = match unit.split_once('@') {
                Some((percent, mhz)) => (percent, Some(token::number(mhz)?)),
                None => (unit, None),
            };
            sum += token::percent(percent)?;
            units += 1;
            mhz = own.map_or(mhz, |own| Some(mhz.map_or(own, |mhz: f64| mhz.max(own))));
        }
        let percent = (units > 0).then(|| sum / f64::from(units));
        (percent.is_some() || mhz.is_some()).then_some(Load { percent, mhz })
    }
}

/// The highest of one or, in brackets, several frequencies.
fn highest(text: &str) -> Option<f64> {
    let list = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let mut highest = f64::NEG_INFINITY;
    for mhz in list.unwrap_or(text).split(',') {
        highest = highest.max(token::number(mhz.trim())?);
    }
    Some(highest)
}

impl<'a> Power<'a> {
    /// Parses `4067/4067` (JetPack 4), `4824mW/4824mW`, with a maximum `5000mW/4824mW/9000mW`, or alone `4824mW`.
    pub(super) fn parse(name: &'a str, value: &str) -> Option<Power<'a>> {
        let mut parts = value.split('/');
        let now = parts.next()?;
        let number = |text: &str| token::number(text.strip_suffix("mW").unwrap_or(text));
        let average = match parts.next() {
            Some(text) => Some(number(text)?),
            None if now.ends_with("mW") => None,
            None => return None,
        };
        let maximum = match parts.next() {
            Some(text) => Some(number(text)?),
            None => None,
        };
        if parts.next().is_some() {
            return None;
        }
        Some(Power {
            name,
            milliwatts: number(now)?,
            average,
            maximum,
        })
    }
}
