//! Any bytes as a response of mDNS: bounded records, with names that can be asked for again.
#![no_main]

use edge_metrics_exporter::mdns::message::{
    query, Data, Kind, Name, Response, MAX_MESSAGE, MAX_RECORDS,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(response) = Response::parse(bytes) else {
        return;
    };
    assert!(bytes.len() <= MAX_MESSAGE && response.records.len() <= MAX_RECORDS);
    assert_eq!(response.id.to_be_bytes(), bytes[..2]);
    for record in &response.records {
        check(&record.name);
        match &record.data {
            Data::Address(_) => {}
            Data::Pointer(name) => check(name),
            Data::Service { host, .. } => check(host),
            Data::Text(pairs) => {
                assert!(pairs.len() <= 32);
                for (i, (key, _)) in pairs.iter().enumerate() {
                    assert!(!key.is_empty());
                    let before = &pairs[..i];
                    assert!(before
                        .iter()
                        .all(|(known, _)| !known.eq_ignore_ascii_case(key)));
                }
            }
        }
    }
});

/// A name that was read is one that can be written: as a record of its own it is read again.
fn check(name: &Name) {
    let length: usize = name.labels().iter().map(|label| label.len() + 1).sum();
    assert!(length < 255, "{name}");
    assert!(
        name.labels()
            .iter()
            .all(|label| (1..=63).contains(&label.len())),
        "{name}"
    );
    let question = query(7, &[(name, Kind::Pointer)]).split_off(12);
    let mut message = vec![0, 7, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let written = &question[..question.len() - 4];
    message.extend_from_slice(written);
    message.extend_from_slice(&[0, 12, 0, 1, 0, 0, 0, 60]);
    message.extend_from_slice(&(written.len() as u16).to_be_bytes());
    message.extend_from_slice(written);
    let again = Response::parse(&message).expect("it is a response");
    assert_eq!(again.records.len(), 1, "{name}");
    assert_eq!(again.records[0].name, *name);
    assert_eq!(again.records[0].data, Data::Pointer(name.clone()));
}
