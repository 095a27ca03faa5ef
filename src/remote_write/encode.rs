//! Runs of samples to the body of a request: a message of either generation, compressed by snappy's block format.

use std::collections::HashMap;

use prost::Message;

use super::feed::Run;
use super::messages::{v1, v2};
use crate::config::Protocol;
use crate::metrics::Kind;

impl Protocol {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            // 1.x receivers know no parameter.
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
            Protocol::V1 => write_request(runs).encode_to_vec(),
            Protocol::V2 => request(runs).encode_to_vec(),
        };
        snap::raw::Encoder::new().compress_vec(&message).ok()
    }
}

fn write_request(runs: &[Run]) -> v1::WriteRequest {
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

fn request(runs: &[Run]) -> v2::Request {
    let mut symbols = Symbols::default();
    symbols.place("");
    let series = runs.iter().map(|run| {
        let labels = run.series.labels.iter();
        let refs = labels.flat_map(|(name, value)| [name, value]);
        let labels_refs = refs.map(|text| symbols.place(text)).collect();
        let metadata = v2::Metadata {
            r#type: match run.series.kind {
                Kind::Gauge => v2::MetricType::Gauge.into(),
                Kind::Counter => v2::MetricType::Counter.into(),
            },
            help_ref: symbols.place(&run.series.help),
            unit_ref: symbols.place(&run.series.unit),
        };
        let samples = run.samples.iter().map(|(timestamp, bits)| v2::Sample {
            value: f64::from_bits(*bits),
            timestamp: *timestamp,
            start_timestamp: start(run.start),
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

/// 0 says that it is not known: the moment 0 itself is told by its neighbour.
fn start(since: Option<i64>) -> i64 {
    match since {
        None => 0,
        Some(0) => 1,
        Some(since) => since,
    }
}

/// Each text once.
#[derive(Default)]
struct Symbols<'t> {
    places: HashMap<&'t str, u32>,
    all: Vec<&'t str>,
}

impl<'t> Symbols<'t> {
    fn place(&mut self, text: &'t str) -> u32 {
        let all = &mut self.all;
        *self.places.entry(text).or_insert_with(|| {
            all.push(text);
            (all.len() - 1) as u32
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::feed::Identity;
    use super::*;
    use crate::metrics::ABSENT;

    fn run(name: &str, kind: Kind, samples: &[(i64, f64)]) -> Run {
        let label = |name: &str, value: &str| (name.to_string(), value.to_string());
        Run {
            series: Arc::new(Identity {
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
    fn a_message_of_the_first_generation() {
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
    fn a_message_of_the_second_generation() {
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
    fn the_moment_0_is_not_said_to_be_unknown() {
        assert_eq!([start(None), start(Some(0)), start(Some(-5))], [0, 1, -5]);
    }
}
