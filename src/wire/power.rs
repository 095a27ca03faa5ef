//! What a board draws, as it tells the central server in the headers of its requests.

/// The board's total power in watts: `12.5`. Absent while it is not known.
const POWER: &str = "Exporter-Power";
/// The board's energy counter, and for how long it counts: `4211.3 360.2`, joules and seconds. Absent while it is not known.
const ENERGY: &str = "Exporter-Energy";
/// Bytes of the longest number.
const MAX_NUMBER: usize = 32;
/// What is more than this is no reading of a board: watts, joules and seconds.
const MAX_WATTS: f64 = 1e9;
const MAX_JOULES: f64 = 1e18;
const MAX_SECONDS: f64 = 1e11;

/// A board's total power and energy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PowerReading {
    /// The power now, in watts; `None`: not known.
    pub watts: Option<f64>,
    /// The energy counter; `None`: not known.
    pub energy: Option<EnergyReading>,
}

/// A reading of a board's energy counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnergyReading {
    /// The energy since the counter began, in joules.
    pub joules: f64,
    /// The time since then, in seconds. It tells whether the counter has begun anew since an earlier reading.
    pub seconds: f64,
}

impl EnergyReading {
    /// A reading; `None`: a board cannot have it.
    pub fn new(joules: f64, seconds: f64) -> Option<EnergyReading> {
        let is_valid =
            (0.0..=MAX_JOULES).contains(&joules) && (0.0..=MAX_SECONDS).contains(&seconds);
        is_valid.then_some(EnergyReading { joules, seconds })
    }
}

impl PowerReading {
    /// A reading, of which what a board cannot have is left out. `None`: nothing is left.
    pub fn new(watts: Option<f64>, energy: Option<EnergyReading>) -> Option<PowerReading> {
        let watts = watts.filter(|watts| watts.abs() <= MAX_WATTS);
        (watts.is_some() || energy.is_some()).then_some(PowerReading { watts, energy })
    }

    /// The headers of a request with this reading.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let power = self.watts.map(|watts| (POWER, format!("{watts:.4}")));
        let energy = self
            .energy
            .map(|EnergyReading { joules, seconds }| (ENERGY, format!("{joules:.3} {seconds:.3}")));
        power.into_iter().chain(energy).collect()
    }

    /// Reads the headers of a request. What is no number is left out. `None`: nothing is left.
    pub fn read<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Option<PowerReading> {
        let energy = |text: &str| {
            let (joules, seconds) = text.trim().split_once(' ')?;
            EnergyReading::new(number(joules)?, number(seconds)?)
        };
        PowerReading::new(
            header(POWER).and_then(|text| number(text.trim())),
            header(ENERGY).and_then(energy),
        )
    }
}

/// A plain decimal number.
fn number(text: &str) -> Option<f64> {
    let is_plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'-');
    let is_number = text.len() <= MAX_NUMBER && text.bytes().all(is_plain);
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(power: &str, energy: &str) -> Option<PowerReading> {
        PowerReading::read(|name| match name {
            POWER => Some(power),
            ENERGY => Some(energy),
            _ => None,
        })
    }

    #[test]
    fn reading_survives_headers() {
        let energy = EnergyReading::new(4211.25, 360.5);
        for reading in [
            PowerReading::new(Some(-12.5), energy),
            PowerReading::new(Some(0.0), None),
            PowerReading::new(None, energy),
        ] {
            let reading = reading.unwrap();
            let headers = reading.headers();
            let header = |name: &str| {
                headers
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| v.as_str())
            };
            assert_eq!(PowerReading::read(header), Some(reading));
        }
    }

    #[test]
    fn what_no_board_can_have_is_left_out() {
        assert_eq!(PowerReading::read(|_| None), None);
        for power in [
            "",
            "x",
            "NaN",
            "inf",
            "1e3",
            "+1",
            "2000000000",
            "1 2",
            &"1".repeat(33),
        ] {
            assert_eq!(read(power, ""), None, "{power}");
        }
        for energy in [
            "",
            "1",
            "1 2 3",
            "-1 2",
            "1 -2",
            "NaN 1",
            "1  2",
            "9999999999999999999 1",
        ] {
            assert_eq!(read("", energy), None, "{energy}");
        }
        // One of both is enough.
        assert_eq!(read("1", "x").unwrap().energy, None);
        assert_eq!(read("x", "1 2").unwrap().watts, None);
    }
}
