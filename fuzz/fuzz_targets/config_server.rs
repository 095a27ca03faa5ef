//! What strangers and etcd say to the config-server: the first byte chooses the reader, the rest is what is read.
#![no_main]

use edge_metrics_exporter::config_server::{etcd_json, Conditions, Etag, Evaluation, Tags};
use edge_metrics_exporter::wire::{DeviceId, PowerReading, Report};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((reader, rest)) = bytes.split_first() else {
        return;
    };
    match reader % 4 {
        0 => {
            if let Ok(range) = etcd_json::parse_range(rest) {
                assert!(range.pairs.iter().all(|pair| pair.revision > 0));
            }
            let swapped = etcd_json::parse_swap(rest);
            assert!(swapped != Ok(true) || rest.windows(4).any(|w| w == b"true"));
            if let Ok(token) = etcd_json::parse_token(rest) {
                // It goes into a header.
                assert!(!token.reveal().contains(['\r', '\n', ' ']));
            }
            if let Ok(watched) = etcd_json::parse_watch(rest) {
                assert!(watched.events.iter().all(|event| event.pair.revision > 0));
            }
            let said = etcd_json::parse_error(rest);
            assert!(said.chars().count() <= 200 && !said.contains('\n'));
        }
        reader => {
            let Ok(text) = std::str::from_utf8(rest) else {
                return;
            };
            match reader {
                1 => device_id(text),
                2 => tags(text),
                _ => report(text),
            }
        }
    }
});

/// It is a file name in any directory, and nothing else.
fn device_id(text: &str) {
    let Ok(id) = DeviceId::parse(text) else {
        return;
    };
    let file = format!("{id}.yaml");
    let path = std::path::Path::new("dir").join(&file);
    assert_eq!(path.components().count(), 2);
    assert!(path.file_name().is_some_and(|name| name == file.as_str()));
    assert!(!file.starts_with('.') && file.len() <= 255);
    assert_eq!(id.as_str(), text);
}

/// What is a list of tags has tags with both their quotes, and reads the same when it is written again.
fn tags(text: &str) {
    let Some(tags) = Tags::parse(text) else {
        return;
    };
    let tag = Etag::of(text.as_bytes());
    if let Tags::List(list) = &tags {
        assert!(!list.is_empty());
        let again: Vec<_> = list
            .iter()
            .map(|(weak, tag)| format!("{}{tag}", if *weak { "W/" } else { "" }))
            .collect();
        assert_eq!(Tags::parse(&again.join(", ")).as_ref(), Some(&tags));
        assert!(list
            .iter()
            .all(|(_, tag)| tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"')));
    }
    let conditions = Conditions {
        if_match: Some(tags),
        if_none_match: None,
    };
    assert_eq!(conditions.evaluate(&[]), Evaluation::Failed);
    let _ = conditions.evaluate(&[tag]);
}

/// What was heard and is said again is heard the same.
fn report(text: &str) {
    let mut lines = text.split('\n');
    let headers: Vec<_> = [
        "Exporter-Version",
        "Exporter-Ports",
        "Exporter-Refused",
        "Exporter-Scheme",
        "Exporter-Device-Type",
        "Exporter-Degraded",
        "Exporter-Power",
        "Exporter-Energy",
    ]
    .into_iter()
    .filter_map(|name| Some((name, lines.next()?)))
    .collect();
    let find = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| *value)
    };
    let _ = PowerReading::read(find);
    let Some(report) = Report::read(find) else {
        return;
    };
    let said = report.headers();
    let again = Report::read(|name| {
        said.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value.as_str())
    });
    assert_eq!(again, Some(report));
}
