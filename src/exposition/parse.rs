//! Parses the text of a scrape: what this exporter answers, with and without timestamps, and other exporters, too.
//!
//! The text may come from anywhere. A line that is no sample is reported and passed over, and costs no others. No line costs
//! more memory than it has bytes; the caller limits the bytes.

use std::borrow::Cow;

use super::Format;
use crate::metrics::quoted;

/// A sample with more labels is malformed.
const MAX_LABELS: usize = 64;

/// One sample of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'t> {
    /// The metric's name.
    pub name: &'t str,
    /// Names and values of the labels, in the text's order, unescaped.
    pub labels: Vec<(&'t str, Cow<'t, str>)>,
    /// The value. It may be infinite or NaN.
    pub value: f64,
    /// The timestamp in milliseconds since 1970, if there is one.
    pub timestamp_ms: Option<i64>,
}

impl Sample<'_> {
    /// The value of a label; `None` also where it is empty, which means the same in Prometheus's data model.
    pub fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.iter();
        let (_, value) = labels.find(|(label, _)| *label == name)?;
        (!value.is_empty()).then_some(&**value)
    }
}

/// A line that is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// The line's number, from 1.
    pub line: usize,
}

/// The samples of a text, in its order. Comments and metadata are passed over.
#[derive(Debug, Clone)]
pub struct Samples<'t> {
    lines: std::iter::Enumerate<std::str::Lines<'t>>,
    format: Format,
}

/// The samples of this text. The format says what timestamps mean: milliseconds in the text format, seconds in OpenMetrics.
pub fn parse(text: &str, format: Format) -> Samples<'_> {
    Samples {
        lines: text.lines().enumerate(),
        format,
    }
}

impl<'t> Iterator for Samples<'t> {
    type Item = Result<Sample<'t>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (index, line) = self.lines.next()?;
            let line = line.trim_matches(is_blank);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            return Some(sample(line, self.format).ok_or(Malformed { line: index + 1 }));
        }
    }
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// The sample of a line without blanks around it.
fn sample(line: &str, format: Format) -> Option<Sample<'_>> {
    let (name, rest) = split_name(line, |c| c == ':')?;
    let rest = rest.trim_start_matches(is_blank);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // An exemplar of OpenMetrics follows after `#`.
    let rest = rest.split('#').next().unwrap_or_default();
    let mut words = rest.split(is_blank).filter(|word| !word.is_empty());
    let value = words.next()?.parse().ok()?;
    let timestamp_ms = match words.next() {
        Some(word) => Some(timestamp(word, format)?),
        None => None,
    };
    words.next().is_none().then_some(Sample {
        name,
        labels,
        value,
        timestamp_ms,
    })
}

/// Splits a name off: letters, digits, `_`, and what `also` allows. It is not empty, and does not begin with a digit.
fn split_name(text: &str, also: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || also(c);
    let end = text.find(|c| !is_of_name(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let begins_well = |c: char| !c.is_ascii_digit();
    name.starts_with(begins_well).then_some((name, rest))
}

type Labels<'t> = Vec<(&'t str, Cow<'t, str>)>;

/// The labels after `{`, and what follows after `}`.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(is_blank);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        if labels.len() == MAX_LABELS {
            return None;
        }
        let (name, after) = split_name(rest, |_| false)?;
        let after = after.trim_start_matches(is_blank).strip_prefix('=')?;
        let after = after.trim_start_matches(is_blank).strip_prefix('"')?;
        let (value, after) = quoted(after)?;
        labels.push((name, value));
        rest = after.trim_start_matches(is_blank);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// A timestamp as milliseconds since 1970.
fn timestamp(word: &str, format: Format) -> Option<i64> {
    match format {
        Format::Text => word.parse().ok(),
        Format::OpenMetrics1 | Format::OpenMetrics0 => {
            let millis = (word.parse::<f64>().ok()? * 1000.0).round();
            // Beyond 2^53 a float has no milliseconds.
            (millis.abs() <= 9_007_199_254_740_992.0).then_some(millis as i64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{render, render_batch};
    use crate::metrics::{Desc, Policy, Progress, Readings, Registry, WallClock};
    use crate::sys::clock::BootTime;
    use std::time::Duration;

    fn one(line: &str) -> Option<Sample<'_>> {
        let mut samples = parse(line, Format::Text);
        let first = samples.next()?.ok();
        assert_eq!(samples.next(), None);
        first
    }

    #[test]
    fn samples_of_all_exporters_are_understood() {
        let sample = one("power_watts{source=\"rapl\",rail=\"package-0\"} 12.5").unwrap();
        assert_eq!(sample.name, "power_watts");
        assert_eq!(sample.label("rail"), Some("package-0"));
        assert_eq!((sample.value, sample.timestamp_ms), (12.5, None));
        let spaced = one("  a:b \t{ x = \"1\" , y=\"\", }  1e+06   1795219200123 ").unwrap();
        assert_eq!((spaced.name, spaced.value), ("a:b", 1e6));
        assert_eq!((spaced.label("x"), spaced.label("y")), (Some("1"), None));
        assert_eq!(spaced.timestamp_ms, Some(1_795_219_200_123));
        let escaped = one(r#"x{a="\\ \" \n \t } ,",b="é"} +Inf"#).unwrap();
        assert_eq!(escaped.label("a"), Some("\\ \" \n \\t } ,"));
        assert_eq!(escaped.label("b"), Some("é"));
        assert_eq!(escaped.value, f64::INFINITY);
        assert!(one("x NaN").unwrap().value.is_nan());
        assert_eq!(one("x{} 1").unwrap().labels, []);
    }

    #[test]
    fn openmetrics_has_seconds_exemplars_and_an_end() {
        let text = "# TYPE x counter\nx_total 3.0 1795219200.567 # {trace=\"a\"} 0.1\n# EOF\n";
        let samples: Vec<_> = parse(text, Format::OpenMetrics1).collect();
        let [Ok(sample)] = samples.as_slice() else {
            panic!("{samples:?}");
        };
        assert_eq!(sample.timestamp_ms, Some(1_795_219_200_567));
    }

    #[test]
    fn malformed_line_costs_no_others() {
        let many: String = (0..=MAX_LABELS).map(|n| format!("l{n}=\"\",")).collect();
        let many = format!("x{{{many}}} 1");
        for line in [
            "<html>",
            "x",
            "x y",
            "9x 1",
            "x{ 1",
            "x{a} 1",
            "x{a=} 1",
            "x{a=\"} 1",
            "x{a=\"\\\"} 1",
            "x{a=\"1\" b=\"2\"} 1",
            "x{a=\"1\"",
            "x{9=\"1\"} 1",
            "{} 1",
            "x 1 2 3",
            "x 1 99999999999999999999",
            "x 1 1.5",
            "é 1",
            "\u{0} 1",
            many.as_str(),
        ] {
            let text = format!("a 1\n{line}\nb 2\n");
            let samples: Vec<_> = parse(&text, Format::Text).collect();
            assert_eq!(samples.len(), 3, "{line}");
            assert_eq!(samples[1], Err(Malformed { line: 2 }), "{line}");
            assert!(samples[0].is_ok() && samples[2].is_ok(), "{line}");
        }
        let far: Vec<_> = parse("x 1 1e300", Format::OpenMetrics1).collect();
        assert_eq!(far, [Err(Malformed { line: 1 })]);
    }

    #[test]
    fn own_output_is_read_back() {
        let registry = Registry::new(Policy::All);
        let labels = vec![("hostname".to_string(), "a\\b\"c\nd".to_string())];
        let group = registry.add_group(0, "rapl", labels);
        group.history().limit(Duration::from_secs(60), 1 << 16);
        let watts = group.series(
            &Desc::gauge("power_watts", "Power.\nOf \\ all."),
            &[("rail", "core")],
        );
        let generation = group.new_generation();
        let mut out = Readings::new(5.0);
        for row in 0..3u32 {
            out.begin(BootTime(u64::from(row) * 1_000_000));
            out.set(watts, 1.5 + f64::from(row) / 3.0);
            group.publish(generation, &out);
        }
        let now = BootTime(2_000_000);
        let start = 1_795_219_200_567_i64;
        let clock = WallClock::new(move || (now, start * 1_000_000 + now.0 as i64));
        let offset = clock.offset().unwrap();
        for format in [Format::Text, Format::OpenMetrics1] {
            let mut plain = Vec::new();
            render(&registry.snapshot(now), format, &mut plain);
            let plain = String::from_utf8(plain).unwrap();
            let samples: Vec<_> = parse(&plain, format).map(Result::unwrap).collect();
            assert_eq!(samples.len(), 1, "{plain}");
            assert_eq!(samples[0].label("hostname"), Some("a\\b\"c\nd"));
            assert_eq!(samples[0].value, 1.5 + 2.0 / 3.0);
            let batch = Progress::new(BootTime(0)).take(&registry, &offset, now, 1 << 20);
            let mut timed = Vec::new();
            render_batch(&batch, &registry.layout(), format, |_| true, &mut timed);
            let timed = String::from_utf8(timed).unwrap();
            let samples = parse(&timed, format).map(Result::unwrap);
            let stamps: Vec<_> = samples.map(|s| (s.timestamp_ms, s.value)).collect();
            let expected: Vec<_> = (0..3u32)
                .map(|n| (Some(start + i64::from(n)), 1.5 + f64::from(n) / 3.0))
                .collect();
            assert_eq!(stamps, expected);
        }
    }
}
