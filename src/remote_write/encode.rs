//! Encodes runs of samples as the body of a request: a message of either generation, compressed in snappy's block
//! format.
//!
//! The messages are those of prometheus.io/docs/specs/prw, remote_write_spec and remote_write_spec_2_0 (2.0-rc.4), in
//! protobuf's encoding, fields in the order of their numbers. They are written directly from the runs, so that no text
//! is copied but into the message.

use std::collections::HashMap;

use super::feed::Run;
use super::queue::bytes::put_number;
use crate::config::Protocol;
use crate::metrics::Kind;

impl Protocol {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            // 1.x receivers do not know the parameter.
            Protocol::V1 => "application/x-protobuf",
            Protocol::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// The value of `X-Prometheus-Remote-Write-Version`.
    pub fn version(self) -> &'static str {
        match self {
            Protocol::V1 => "0.1.0",
            Protocol::V2 => "2.0.0",
        }
    }

    /// The body of a request. `None`: it is larger than snappy's format can hold (4 GiB).
    pub fn encode(self, runs: &[Run]) -> Option<Vec<u8>> {
        let message = match self {
            Protocol::V1 => write_request(runs),
            Protocol::V2 => request(runs),
        };
        snap::raw::Encoder::new().compress_vec(&message).ok()
    }
}

/// `prometheus.WriteRequest`: each series (1) has labels (1: name, 2: value) and samples (2).
fn write_request(runs: &[Run]) -> Vec<u8> {
    let (mut out, mut series, mut label) = (Vec::new(), Vec::new(), Vec::new());
    for run in runs {
        series.clear();
        for (name, value) in &run.series.labels {
            label.clear();
            put_bytes(&mut label, 1, name.as_bytes());
            put_bytes(&mut label, 2, value.as_bytes());
            put_bytes(&mut series, 1, &label);
        }
        put_samples(&mut series, run, 0);
        put_bytes(&mut out, 1, &series);
    }
    out
}

/// `io.prometheus.write.v2.Request`: every text (4) once, the first of them empty, and each series (5). That has its labels
/// (1: name and value in turn, as places in the texts), samples (2), and metadata (5: 1, type; 3, help; 4, unit).
fn request(runs: &[Run]) -> Vec<u8> {
    let mut symbols = Symbols::default();
    symbols.place("");
    let (mut all, mut series, mut field) = (Vec::new(), Vec::new(), Vec::new());
    for run in runs {
        series.clear();
        field.clear();
        for text in run.series.labels.iter().flat_map(|(n, v)| [n, v]) {
            put_number(&mut field, symbols.place(text));
        }
        put_bytes(&mut series, 1, &field);
        put_samples(&mut series, run, start_timestamp(run.start));
        field.clear();
        let kind = match run.series.kind {
            Kind::Counter => 1,
            Kind::Gauge => 2,
        };
        put_field(&mut field, 1, kind);
        put_field(&mut field, 3, symbols.place(&run.series.help));
        put_field(&mut field, 4, symbols.place(&run.series.unit));
        put_bytes(&mut series, 5, &field);
        put_bytes(&mut all, 5, &series);
    }
    let mut out = Vec::with_capacity(all.len());
    for text in symbols.all {
        put_bytes(&mut out, 4, text.as_bytes());
    }
    out.extend(all);
    out
}

/// The samples of a series (2): value (1), timestamp (2), and when a counter began to count (3), in milliseconds since
/// 1970.
fn put_samples(out: &mut Vec<u8>, run: &Run, start: i64) {
    let mut sample = Vec::new();
    for (timestamp, bits) in &run.samples {
        sample.clear();
        if f64::from_bits(*bits) != 0.0 {
            sample.push(1 << 3 | 1);
            sample.extend(bits.to_le_bytes());
        }
        put_field(&mut sample, 2, *timestamp as u64);
        put_field(&mut sample, 3, start as u64);
        put_bytes(out, 2, &sample);
    }
}

/// A field that is a number. 0 is the default, which is not written.
fn put_field(out: &mut Vec<u8>, field: u8, number: u64) {
    if number != 0 {
        out.push(field << 3);
        put_number(out, number);
    }
}

/// A field that is a text or a message.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The start timestamp. 0 means unknown, so that the moment 0 is given as 1.
fn start_timestamp(since: Option<i64>) -> i64 {
    match since {
        None => 0,
        Some(0) => 1,
        Some(since) => since,
    }
}

/// The texts of a message, each once.
#[derive(Default)]
struct Symbols<'t> {
    places: HashMap<&'t str, u64>,
    all: Vec<&'t str>,
}

impl<'t> Symbols<'t> {
    fn place(&mut self, text: &'t str) -> u64 {
        let all = &mut self.all;
        *self.places.entry(text).or_insert_with(|| {
            all.push(text);
            (all.len() - 1) as u64
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message;

    use super::super::feed::SeriesIdentity;
    use super::super::messages::{v1, v2};
    use super::*;
    use crate::metrics::ABSENT;

    fn run(name: &str, kind: Kind, samples: &[(i64, f64)]) -> Run {
        let label = |name: &str, value: &str| (name.to_string(), value.to_string());
        Run {
            series: Arc::new(SeriesIdentity {
                labels: vec![label("__name__", name), label("job", "edge")],
                kind,
                help: "What it is.".into(),
                unit: String::new(),
            }),
            start: (kind == Kind::Counter).then_some(7),
            samples: samples
                .iter()
                .map(|(at, value)| (*at, value.to_bits()))
                .collect(),
        }
    }

    fn runs() -> [Run; 2] {
        [
            run("power_watts", Kind::Gauge, &[(1, 1.5), (2, ABSENT)]),
            run(
                "energy_total",
                Kind::Counter,
                &[(1, 0.0), (9, f64::INFINITY)],
            ),
        ]
    }

    fn unpacked(protocol: Protocol) -> Vec<u8> {
        let body = protocol.encode(&runs()).unwrap();
        snap::raw::Decoder::new().decompress_vec(&body).unwrap()
    }

    #[test]
    fn message_of_the_first_generation() {
        let message = v1::WriteRequest::decode(&*unpacked(Protocol::V1)).unwrap();
        let [power, energy] = &message.timeseries[..] else {
            panic!("{message:?}");
        };
        let labels: Vec<_> = power.labels.iter().map(|l| (&*l.name, &*l.value)).collect();
        assert_eq!(labels, [("__name__", "power_watts"), ("job", "edge")]);
        let bits = |s: &v1::Sample| (s.timestamp, s.value.to_bits());
        let samples: Vec<_> = power.samples.iter().map(bits).collect();
        assert_eq!(samples, [(1, 1.5f64.to_bits()), (2, 0x7ff0_0000_0000_0002)]);
        assert_eq!(energy.samples.len(), 2);
    }

    #[test]
    fn message_of_the_second_generation() {
        let message = v2::Request::decode(&*unpacked(Protocol::V2)).unwrap();
        let symbols = [
            "",
            "__name__",
            "power_watts",
            "job",
            "edge",
            "What it is.",
            "energy_total",
        ];
        assert_eq!(message.symbols, symbols);
        let [power, energy] = &message.timeseries[..] else {
            panic!("{message:?}");
        };
        assert_eq!(power.labels_refs, [1, 2, 3, 4]);
        assert_eq!(energy.labels_refs, [1, 6, 3, 4]);
        assert_eq!(power.samples[1].value.to_bits(), 0x7ff0_0000_0000_0002);
        let starts = |series: &v2::TimeSeries| {
            let samples = series.samples.iter();
            samples.map(|s| s.start_timestamp).collect::<Vec<_>>()
        };
        assert_eq!((starts(power), starts(energy)), (vec![0, 0], vec![7, 7]));
        let metadata = energy.metadata.unwrap();
        assert_eq!(metadata.r#type(), v2::MetricType::Counter);
        assert_eq!((metadata.help_ref, metadata.unit_ref), (5, 0));
    }

    #[test]
    fn moment_0_is_not_encoded_as_unknown() {
        assert_eq!(
            [
                start_timestamp(None),
                start_timestamp(Some(0)),
                start_timestamp(Some(-5))
            ],
            [0, 1, -5]
        );
    }

    fn reference_v1(runs: &[Run]) -> v1::WriteRequest {
        let series = runs.iter().map(|run| {
            let labels = run.series.labels.iter().map(|(name, value)| v1::Label {
                name: name.clone(),
                value: value.clone(),
            });
            let samples = run.samples.iter().map(|(timestamp, bits)| v1::Sample {
                value: f64::from_bits(*bits),
                timestamp: *timestamp,
            });
            v1::TimeSeries {
                labels: labels.collect(),
                samples: samples.collect(),
            }
        });
        v1::WriteRequest {
            timeseries: series.collect(),
        }
    }

    fn reference_v2(runs: &[Run]) -> v2::Request {
        let mut symbols = Symbols::default();
        symbols.place("");
        let series = runs.iter().map(|run| {
            let labels = run.series.labels.iter();
            let refs = labels.flat_map(|(name, value)| [name, value]);
            let labels_refs = refs.map(|text| symbols.place(text) as u32).collect();
            let metadata = v2::Metadata {
                r#type: match run.series.kind {
                    Kind::Gauge => v2::MetricType::Gauge.into(),
                    Kind::Counter => v2::MetricType::Counter.into(),
                },
                help_ref: symbols.place(&run.series.help) as u32,
                unit_ref: symbols.place(&run.series.unit) as u32,
            };
            let samples = run.samples.iter().map(|(timestamp, bits)| v2::Sample {
                value: f64::from_bits(*bits),
                timestamp: *timestamp,
                start_timestamp: start_timestamp(run.start),
            });
            v2::TimeSeries {
                labels_refs,
                samples: samples.collect(),
                metadata: Some(metadata),
            }
        });
        let timeseries = series.collect();
        v2::Request {
            symbols: symbols.all.into_iter().map(str::to_string).collect(),
            timeseries,
        }
    }

    #[test]
    fn bytes_equal_those_of_a_protobuf_library() {
        let mut runs = runs().to_vec();
        runs.push(run(
            "zero",
            Kind::Counter,
            &[(0, 0.0), (1, -0.0), (-5, f64::NAN), (i64::MAX, 5e-324)],
        ));
        runs.push(run(&"long ".repeat(100), Kind::Gauge, &[]));
        let mut odd = run("unit", Kind::Gauge, &[(i64::MIN, f64::MAX)]);
        let mut identity = (*odd.series).clone();
        (identity.unit, identity.help) = ("watts".into(), String::new());
        (odd.series, odd.start) = (Arc::new(identity), Some(0));
        runs.push(odd);
        for runs in [&runs[..], &runs[..1], &[]] {
            assert_eq!(write_request(runs), reference_v1(runs).encode_to_vec());
            assert_eq!(request(runs), reference_v2(runs).encode_to_vec());
        }
    }
}
