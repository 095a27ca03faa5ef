//! The names of what is measured: the board as a whole, and the rails that sources measure.

use std::fmt;

/// A longer name is cut off. Rails of real boards have half as many letters.
const MAX_CHARS: usize = 80;

/// A rail, or the board's total. The board comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rail {
    /// The board's total.
    Board,
    /// What one source measures: a rail, which may be part of another one.
    Of {
        /// The source, such as `rapl`.
        source: String,
        /// The rail, such as `package-0`.
        rail: String,
    },
}

impl Rail {
    /// A rail of these labels. Control characters, which a terminal would obey, are left out.
    pub fn of(source: &str, rail: &str) -> Rail {
        let shown = |text: &str| -> String {
            let visible = text.chars().filter(|c| !c.is_control());
            visible.take(MAX_CHARS).collect()
        };
        Rail::Of {
            source: shown(source),
            rail: shown(rail),
        }
    }

    /// The source that measures it; the board's total may go from one source to another.
    pub fn source(&self) -> Option<&str> {
        match self {
            Rail::Board => None,
            Rail::Of { source, .. } => Some(source),
        }
    }

    /// Its name within the source.
    pub fn name(&self) -> &str {
        match self {
            Rail::Board => "board",
            Rail::Of { rail, .. } => rail,
        }
    }
}

impl fmt::Display for Rail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rail::Board => f.write_str("board"),
            Rail::Of { source, rail } => write!(f, "{source} {rail}"),
        }
    }
}

/// What a series says of a rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Watts.
    Power,
    /// Joules since some moment.
    Energy,
}

/// The metrics that are read.
pub const METRICS: [&str; 4] = [
    "power_total_watts",
    "board_energy_joules_total",
    "power_watts",
    "energy_joules_total",
];

/// The rail of a series, and what the series says of it; `None`: it is none of [`METRICS`].
pub fn identify<'l>(
    metric: &str,
    label: impl Fn(&str) -> Option<&'l str>,
) -> Option<(Rail, Quantity)> {
    let of_labels = || Some(Rail::of(label("source")?, label("rail")?));
    match metric {
        "power_total_watts" => Some((Rail::Board, Quantity::Power)),
        "board_energy_joules_total" => Some((Rail::Board, Quantity::Energy)),
        "power_watts" => Some((of_labels()?, Quantity::Power)),
        "energy_joules_total" => Some((of_labels()?, Quantity::Energy)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_rails_by_name_and_labels() {
        let labels = |name: &str| match name {
            "source" => Some("rapl"),
            "rail" => Some("core\u{1b}[2J-0"),
            _ => None,
        };
        let core = Rail::of("rapl", "core[2J-0");
        let energy = identify("energy_joules_total", labels);
        assert_eq!(energy, Some((core.clone(), Quantity::Energy)));
        assert_eq!(identify("voltage_volts", labels), None);
        assert_eq!(identify("power_watts", |_| None), None);
        let board = identify("power_total_watts", |_| None);
        assert_eq!(board, Some((Rail::Board, Quantity::Power)));
        assert!(Rail::Board < core);
        assert_eq!(core.to_string(), "rapl core[2J-0");
        let Rail::Of { rail, .. } = Rail::of("x", &"é".repeat(5000)) else {
            panic!();
        };
        assert_eq!(rail.chars().count(), MAX_CHARS);
    }
}
