//! Durations in the notation of Prometheus.

use std::time::Duration;

use super::tree::Node;
use super::values::{refuse, Outcome};

/// A duration in the notation of Prometheus (`30s`, `1m30s`, `500ms`), or a number of seconds.
pub(super) fn read(node: &Node) -> Outcome<Duration> {
    const MAX: Duration = Duration::from_secs(366 * 86_400);
    let span = match node {
        Node::Int(value) => u64::try_from(*value).ok().map(Duration::from_secs),
        Node::Float(value) => Duration::try_from_secs_f64(*value).ok(),
        Node::Text(text) => parse(text),
        _ => None,
    };
    match span.filter(|span| *span <= MAX) {
        Some(span) => Ok(span),
        None => refuse(node, "a time such as 30s, 1m30s or 500ms"),
    }
}

/// A duration in the same notation, from a text: `90`, `0.5`, `1m30s`. Zero is none.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().map(Duration::try_from_secs_f64);
    let span = match seconds {
        Some(span) => span.ok(),
        None => parse(text),
    };
    span.filter(|span| !span.is_zero())
}

/// Numbers with units, larger units first, each at most once (prometheus/common, model.ParseDuration).
fn parse(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let (mut rest, mut milliseconds, mut smaller) = (text, 0u64, UNITS.as_slice());
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let end = after.find(|c: char| c.is_ascii_digit());
        let (unit, next) = after.split_at(end.unwrap_or(after.len()));
        let place = smaller.iter().position(|(name, _)| *name == unit)?;
        let (_, each) = smaller.get(place)?;
        let count: u64 = digits.parse().ok()?;
        milliseconds = milliseconds.checked_add(count.checked_mul(*each)?)?;
        smaller = smaller.get(place + 1..)?;
        rest = next;
    }
    (!text.is_empty()).then(|| Duration::from_millis(milliseconds))
}

/// A duration greater than zero.
pub(super) fn positive(node: &Node) -> Outcome<Duration> {
    match read(node)? {
        Duration::ZERO => refuse(node, "a time such as 30s, longer than none"),
        span => Ok(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_seconds_or_has_units() {
        for (text, milliseconds) in [
            ("60", Some(60_000)),
            ("0.5", Some(500)),
            ("1m30s", Some(90_000)),
            ("250ms", Some(250)),
            ("0", None),
            ("0s", None),
            ("", None),
            ("-1", None),
            ("1e300", None),
            ("inf", None),
            ("nan", None),
            ("1 s", None),
            ("99999999999999999999y", None),
        ] {
            let expected = milliseconds.map(Duration::from_millis);
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_read_in_the_notation_of_prometheus() {
        let ms = |text: &str| parse(text).map(|span| span.as_millis());
        assert_eq!(ms("30s"), Some(30_000));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("1h0m5ms"), Some(3_600_005));
        assert_eq!(ms("1y2w3d"), Some((365 + 14 + 3) * 86_400_000));
        for wrong in [
            "",
            "s",
            "30",
            "1.5s",
            "30 s",
            "-1s",
            "1s1m",
            "1s1s",
            "1x",
            "99999999999999999999s",
            "999999999999y",
            "é",
        ] {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
        assert_eq!(read(&Node::Float(0.25)).unwrap().as_millis(), 250);
        assert!(read(&Node::Float(f64::NAN)).is_err() && read(&Node::Int(-1)).is_err());
        assert!(read(&Node::Text("400d".into())).is_err());
        assert!(positive(&Node::Int(0)).is_err());
    }
}
