//! Parsing a line of NVIDIA's tegrastats, of any JetPack from 3 (L4T 28) to 7.
//!
//! NVIDIA's Jetson Linux Developer Guide, "tegrastats Utility", documents the statistics. Real lines are in the tests. The
//! layout changes with every release. A token that is not understood is counted and skipped, and does not affect the rest
//! of the line.

use super::token::{self, Tokens};

pub use super::value::{Blocks, Core, Engine, Load, Memory, Power};

/// The most rails, the most sensors and the most engines that are read from a line.
pub const MAX_ITEMS: usize = 64;
/// The most processor cores and the most GPU frequencies that are read from a line.
pub const MAX_CORES: usize = 256;

/// The values of a line. Values that are not in the line are `None` or missing from the lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line<'a> {
    /// Main memory.
    pub ram: Option<Memory>,
    /// The largest free blocks of main memory.
    pub largest_free: Option<Blocks>,
    /// Swap space.
    pub swap: Option<Memory>,
    /// Swap space that is also in memory, in kB.
    pub swap_cached_kb: Option<f64>,
    /// The small memory beside the video engines (Tegra X1).
    pub iram: Option<Memory>,
    /// The largest free block of this memory, in kB.
    pub iram_largest_free_kb: Option<f64>,
    /// The processor's cores, by number.
    pub cores: Vec<Core>,
    /// The load of the memory controller, which is printed for root only.
    pub emc: Load,
    /// The GPU's load in percent, and that of its second cluster (`GR3D2_FREQ`, AGX Orin with early JetPack 5).
    pub gpu_percent: [Option<f64>; 2],
    /// The GPU's frequencies in MHz, with the number of the cluster each belongs to.
    pub gpu_mhz: Vec<(usize, f64)>,
    /// Encoders, decoders and other engines.
    pub engines: Vec<Engine<'a>>,
    /// Time in the foreground and background tasks of Denver's code optimiser (TX2), in percent.
    pub mts_percent: [Option<f64>; 2],
    /// Sensors by name, in degrees Celsius. A sensor that is powered off reads -256.
    pub temperatures: Vec<(&'a str, f64)>,
    /// Power by rail. A channel named `NC` is not connected.
    pub rails: Vec<Power<'a>>,
    /// The number of tokens that were not understood.
    pub unparsed: u64,
    /// The number of tokens left out because of the limits. They are included in `unparsed`.
    pub left_out: u64,
}

/// The kind of memory that a group in parentheses describes: that of the token before it.
#[derive(Clone, Copy, PartialEq)]
enum Subject {
    None,
    Ram,
    Swap,
    Iram,
}

/// Parses a line, in time proportional to its length.
pub fn parse(text: &str) -> Line<'_> {
    let mut line = Line::default();
    let mut tokens = Tokens::new(text);
    let mut subject = Subject::None;
    // Lines of JetPack 5 and later begin with the date and time, which are those of the board's clock.
    for _ in 0..2 {
        if tokens.peek().is_some_and(token::is_stamp) {
            tokens.next();
        }
    }
    while let Some(word) = tokens.next() {
        if word.starts_with('(') {
            line.group(subject, word);
            continue;
        }
        let value = tokens.peek().unwrap_or("");
        let taken = match word {
            "RAM" | "SWAP" | "IRAM" => {
                subject = match word {
                    "RAM" => Subject::Ram,
                    "SWAP" => Subject::Swap,
                    _ => Subject::Iram,
                };
                line.memory(subject, value)
            }
            // Lower case until L4T 28.
            "CPU" | "cpu" if value.starts_with('[') => line.cores(value),
            // The highest processor frequency that the supply allows (Tegra K1 and X1): `EDP limit 1734`.
            "EDP" if value == "limit" => {
                tokens.next();
                tokens
                    .peek()
                    .is_some_and(|mhz| token::number(mhz).is_some())
            }
            // The words "fg" and "bg" with their percentages follow.
            "MTS" => {
                if value != "fg" && value != "bg" {
                    line.unparsed += 1;
                }
                continue;
            }
            "fg" | "bg" => {
                let percent = value.strip_suffix('%').and_then(token::number);
                line.mts_percent[usize::from(word == "bg")] = percent;
                percent.is_some()
            }
            _ if word.contains('@') => {
                if !line.temperature(word) {
                    line.unparsed += 1;
                }
                continue;
            }
            _ => token::is_name(word) && line.named(word, value),
        };
        if taken {
            tokens.next();
        } else {
            line.unparsed += 1;
        }
    }
    line
}

impl<'a> Line<'a> {
    /// Parses an amount of memory: `5848/62801MB`.
    fn memory(&mut self, subject: Subject, value: &str) -> bool {
        let memory = value.split_once('/').and_then(|(used, total)| {
            let (total, unit) = token::kilobytes(total)?;
            Some(Memory {
                used_kb: token::number(used)? * unit,
                total_kb: total * unit,
            })
        });
        let place = match subject {
            Subject::Ram => &mut self.ram,
            Subject::Swap => &mut self.swap,
            Subject::Iram => &mut self.iram,
            Subject::None => return false,
        };
        *place = memory;
        memory.is_some()
    }

    /// Parses a group in parentheses: `(lfb 5875x4MB)`, `(cached 1MB)`, `(lfb 252kB)`.
    fn group(&mut self, subject: Subject, word: &str) {
        let inner = word.trim_start_matches('(').trim_end_matches(')').trim();
        let size = |text| token::kilobytes(text).map(|(n, unit)| n * unit);
        let understood = match (subject, inner.split_once(' ')) {
            (Subject::Ram, Some(("lfb", blocks))) => {
                self.largest_free = blocks.trim().split_once('x').and_then(|(n, each)| {
                    Some(Blocks {
                        count: token::number(n)?,
                        size_kb: size(each)?,
                    })
                });
                self.largest_free.is_some()
            }
            (Subject::Swap, Some(("cached", cached))) => {
                self.swap_cached_kb = size(cached.trim());
                self.swap_cached_kb.is_some()
            }
            (Subject::Iram, Some(("lfb", block))) => {
                self.iram_largest_free_kb = size(block.trim());
                self.iram_largest_free_kb.is_some()
            }
            _ => false,
        };
        self.unparsed += u64::from(!understood);
    }

    /// Parses the cores: `[0%@1728,off,1%@1728]`, or `[0%,5%,off]@2601`.
    fn cores(&mut self, value: &str) -> bool {
        let Some((list, after)) = value.trim_start_matches('[').split_once(']') else {
            return false;
        };
        let shared = after.strip_prefix('@').and_then(token::number);
        if shared.is_none() && !after.is_empty() {
            self.unparsed += 1;
        }
        for item in list.split(',').map(str::trim) {
            let load = Load::parse(item).map(|load| Load {
                mhz: load.mhz.or(shared),
                ..load
            });
            let core = match load {
                _ if token::is_off(item) => Core {
                    on: Some(false),
                    ..Core::default()
                },
                Some(load) => Core {
                    on: Some(true),
                    load,
                },
                None => Core::default(),
            };
            let fits = self.cores.len() < MAX_CORES;
            self.left_out += u64::from(!fits);
            if core.on.is_none() || !fits {
                self.unparsed += 1;
            }
            // A core that was not understood is kept, too, so that the following ones keep their numbers.
            if fits {
                self.cores.push(core);
            }
        }
        true
    }

    /// Parses a temperature: `GPU@48.5C`, or with an average `GPU@48.5C/47.9C`.
    fn temperature(&mut self, word: &'a str) -> bool {
        let Some((name, value)) = word.split_once('@') else {
            return false;
        };
        let now = value.split('/').next().unwrap_or("");
        let celsius = now.strip_suffix('C').and_then(token::number);
        self.left_out += u64::from(self.temperatures.len() >= MAX_ITEMS);
        match celsius {
            Some(celsius) if token::is_name(name) && self.temperatures.len() < MAX_ITEMS => {
                self.temperatures.push((name, celsius));
                true
            }
            _ => false,
        }
    }

    /// Parses a name and its value: a rail's power, an engine's load or frequency, or `off`.
    fn named(&mut self, name: &'a str, value: &str) -> bool {
        let engine = name.strip_suffix("_FREQ");
        let engine = engine.filter(|rest| token::is_name(rest)).unwrap_or(name);
        if let Some(power) = Power::parse(name, value) {
            if self.rails.len() >= MAX_ITEMS {
                self.left_out += 1;
                return false;
            }
            self.rails.push(power);
            return true;
        }
        match engine {
            "GR3D" | "GR3D2" => self.gpu(usize::from(engine == "GR3D2"), value),
            "EMC" => match Load::parse(value) {
                Some(load) => {
                    self.emc = load;
                    true
                }
                None => token::is_off(value),
            },
            _ => {
                let off = token::is_off(value);
                let load = Load::parse(value).or_else(|| {
                    // A number without a unit is the frequency of a known engine. After another name it could be anything.
                    let mhz = token::number(value)?;
                    (engine.len() < name.len() || is_engine(engine)).then_some(Load {
                        percent: None,
                        mhz: Some(mhz),
                    })
                });
                self.left_out += u64::from(self.engines.len() >= MAX_ITEMS);
                if !off && load.is_none() || self.engines.len() >= MAX_ITEMS {
                    return false;
                }
                self.engines.push(Engine {
                    name: engine,
                    on: !off,
                    load: load.unwrap_or_default(),
                });
                true
            }
        }
    }

    /// Parses the GPU's load: `0%`, `0%@76`, `0%@[305,305]`, `@[314,314,314]`; of the second cluster `0%@0`.
    fn gpu(&mut self, cluster: usize, value: &str) -> bool {
        if token::is_off(value) {
            return true;
        }
        if value.starts_with('[') {
            let Some(load) = Load::parse(value) else {
                return false;
            };
            self.gpu_percent[cluster] = load.percent;
            self.gpu_mhz.extend(load.mhz.map(|mhz| (cluster, mhz)));
            return true;
        }
        let (percent, frequencies) = match value.split_once('@') {
            Some((percent, frequencies)) => (percent, frequencies),
            None => (value, ""),
        };
        let load = percent.strip_suffix('%').and_then(token::number);
        if load.is_none() && !percent.is_empty() || value.is_empty() {
            return false;
        }
        self.gpu_percent[cluster] = load;
        let list = frequencies.trim_start_matches('[').trim_end_matches(']');
        if list.is_empty() {
            return true;
        }
        for (i, mhz) in list.split(',').enumerate() {
            match token::number(mhz.trim()) {
                Some(mhz) if self.gpu_mhz.len() < MAX_CORES => {
                    self.gpu_mhz.push((cluster + i, mhz));
                }
                other => {
                    self.unparsed += 1;
                    self.left_out += u64::from(other.is_some());
                }
            }
        }
        true
    }
}

/// Engines that are printed without `_FREQ`, with or without a number.
fn is_engine(name: &str) -> bool {
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    [
        "APE", "VIC", "NVENC", "MSENC", "NVDEC", "NVJPG", "OFA", "NVDLA", "DLA", "PVA", "SE",
        "TSEC", "AVP", "VDE", "VI", "ISP", "NVCSI",
    ]
    .contains(&kind)
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
