//! Any bytes as a configuration in JSON: what is read can be written as YAML and as JSON from which the same is read, or is
//! said to be too long; and a patch can be merged into it.
#![no_main]

use edge_metrics_exporter::config::{Document, MAX_SIZE};
use edge_metrics_exporter::sources::SCHEMA;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = Document::from_json(bytes) else {
        return;
    };
    let mut merged = document.clone();
    merged.merge(&document);
    let json = serde_json::to_string(&document).expect("JSON");
    if json.len() <= MAX_SIZE {
        assert_eq!(Document::from_json(json.as_bytes()).as_ref(), Ok(&document));
    }
    match document.to_yaml() {
        Ok(yaml) => {
            assert!(yaml.len() <= MAX_SIZE);
            assert_eq!(Document::from_yaml(yaml.as_bytes()).as_ref(), Ok(&document));
            // The same by both ways to a configuration.
            let (ours, files) = (document.read(&SCHEMA), SCHEMA.parse(&yaml));
            assert_eq!(
                ours.map(|(config, _)| config).ok(),
                files.map(|(config, _)| config).ok()
            );
        }
        Err(error) => assert!(!error.message.is_empty()),
    }
});
