//! Parses the firmware's texts. Pure.

/// More rails than any PMIC has.
const MAX_RAILS: usize = 64;
/// The longest name of a rail, in bytes.
const MAX_NAME_BYTES: usize = 32;

/// The measurements of the Raspberry Pi 5's PMIC, in the order of the lines.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Adc<'a> {
    /// By rail.
    pub rails: Vec<Rail<'a>>,
    /// Lines that were not understood.
    pub unparsed: u64,
    /// Measurements of rails beyond the limit, which also count as unparsed.
    pub beyond: u64,
}

/// The measurements of one rail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rail<'a> {
    /// Its name: `VDD_CORE`.
    pub name: &'a str,
    /// In volts.
    pub volts: Option<f64>,
    /// In amperes.
    pub amperes: Option<f64>,
}

impl Rail<'_> {
    /// The power in watts, if both are known.
    pub fn watts(&self) -> Option<f64> {
        Some(self.volts? * self.amperes?)
    }
}

/// Reads the answer to `pmic_read_adc`: lines like `   3V3_SYS_A current(1)=0.05490858A` and
/// `     EXT5V_V volt(24)=5.15568000V`. A rail's current and voltage have the same name, but different numbers.
pub fn adc(text: &str) -> Adc<'_> {
    let mut adc = Adc::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Some((name, is_current, value)) = measured(line) else {
            adc.unparsed += 1;
            continue;
        };
        let place = match adc.rails.iter().position(|rail| rail.name == name) {
            Some(place) => place,
            None if adc.rails.len() < MAX_RAILS => {
                adc.rails.push(Rail {
                    name,
                    volts: None,
                    amperes: None,
                });
                adc.rails.len() - 1
            }
            None => {
                adc.beyond += 1;
                adc.unparsed += 1;
                continue;
            }
        };
        let rail = &mut adc.rails[place];
        if is_current {
            rail.amperes = Some(value);
        } else {
            rail.volts = Some(value);
        }
    }
    adc
}

/// The rail, whether the value is its current, and the value.
fn measured(line: &str) -> Option<(&str, bool, f64)> {
    let mut words = line.split_ascii_whitespace();
    let (input, measured) = (words.next()?, words.next()?);
    let (channel, value) = measured.split_once('=')?;
    let (kind, number) = channel.strip_suffix(')')?.split_once('(')?;
    let is_current = match kind {
        "current" => true,
        "volt" => false,
        _ => return None,
    };
    let (suffix, unit) = if is_current { ("_A", 'A') } else { ("_V", 'V') };
    let name = input.strip_suffix(suffix)?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let whole = words.next().is_none()
        && (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(is_name)
        && number.bytes().all(|b| b.is_ascii_digit());
    if !whole {
        return None;
    }
    Some((name, is_current, decimal(value.strip_suffix(unit)?)?))
}

/// A plain decimal number: no exponent, no infinity.
fn decimal(text: &str) -> Option<f64> {
    let is_plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'-');
    let number: f64 = text.bytes().all(is_plain).then(|| text.parse().ok())??;
    number.is_finite().then_some(number)
}

/// Reads the answer to `get_throttled`: `throttled=0x50005`.
pub fn throttled(text: &str) -> Option<u32> {
    let (name, flags) = text.trim().split_once('=')?;
    (name == "throttled")
        .then(|| hexadecimal(flags.as_bytes()))
        .flatten()
}

/// A hexadecimal number, with or without `0x`, as sysfs and the firmware print the flags.
pub fn hexadecimal(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_number = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_number
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rail(name: &str, volts: Option<f64>, amperes: Option<f64>) -> Rail<'_> {
        Rail {
            name,
            volts,
            amperes,
        }
    }

    #[test]
    fn currents_and_voltages_are_paired_by_name() {
        let text = " 3V7_WL_SW_A current(0)=0.00390372A\n   3V3_SYS_A current(1)=0.05490858A\n 3V7_WL_SW_V volt(8)=3.70000000V\n\
                    \x20  3V3_SYS_V volt(9)=3.30000000V\n     EXT5V_V volt(24)=5.15568000V\n      BATT_V volt(25)=0.00000000V\n";
        let adc = adc(text);
        assert_eq!(adc.unparsed, 0);
        assert_eq!(
            adc.rails,
            [
                rail("3V7_WL_SW", Some(3.7), Some(0.00390372)),
                rail("3V3_SYS", Some(3.3), Some(0.05490858)),
                rail("EXT5V", Some(5.15568), None),
                rail("BATT", Some(0.0), None),
            ]
        );
        assert_eq!(adc.rails[1].watts(), Some(3.3 * 0.05490858));
        assert_eq!(adc.rails[2].watts(), None);
    }

    #[test]
    fn unparsed_lines_are_counted() {
        for line in [
            "error=1 error_msg=\"Command not registered\"",
            "VDD_CORE_A current(7)=1.5V",
            "VDD_CORE_V current(7)=1.5A",
            "VDD_CORE_A volt(7)=1.5A",
            "VDD_CORE_A current(7)=1e5A",
            "VDD_CORE_A current(7)=infA",
            "VDD_CORE_A current(7)=nanA",
            "VDD_CORE_A current(7)=A",
            "VDD_CORE_A current(x)=1A",
            "VDD_CORE_A current(7)=1A 2",
            "VDD_CORE_A current7=1A",
            "VDD_CORE_A",
            "_A current(1)=1A",
            "VDD\"CORE_A current(1)=1A",
        ] {
            let adc = adc(line);
            assert_eq!((adc.rails.len(), adc.unparsed), (0, 1), "{line}");
        }
        let long = format!("{}_A current(1)=1A", "x".repeat(33));
        assert_eq!(adc(&long).unparsed, 1);
        let many: String = (0..100)
            .map(|n| format!("R{n}_A current(1)=1A\n"))
            .collect();
        assert_eq!((adc(&many).rails.len(), adc(&many).unparsed), (64, 36));
        assert_eq!(adc(" \n\n"), Adc::default());
    }

    #[test]
    fn flags_in_all_formats() {
        assert_eq!(throttled("throttled=0x50005\n"), Some(0x50005));
        assert_eq!(throttled("throttled=0x0"), Some(0));
        assert_eq!(throttled("temp=0x50005"), None);
        assert_eq!(throttled("get_throttled"), None);
        assert_eq!(hexadecimal(b"50005\n"), Some(0x50005));
        assert_eq!(hexadecimal(b"0xE0008\n"), Some(0xe0008));
        for wrong in [&b""[..], b"0x", b"+5", b"0x1ffffffff", b"g", b"\xff"] {
            assert_eq!(hexadecimal(wrong), None, "{wrong:?}");
        }
    }
}
