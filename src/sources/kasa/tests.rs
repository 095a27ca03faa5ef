use super::settings::Plug;
use super::*;
use crate::sources::SCHEMA;

fn settings(yaml: &str) -> Result<Vec<Plug>, String> {
    let parsed = SCHEMA.parse(&format!("kasa: {{devices: [{yaml}]}}"));
    let (config, _) = parsed.map_err(|error| error.to_string())?;
    Ok(config.meter::<Settings>().devices)
}

#[test]
fn devices_are_read_from_the_configuration() {
    let devices = settings(
        "{host: plug.local}, {host: \"10.0.0.7:1234\", name: rack, power_total: true, socket: 2}",
    );
    let devices = devices.unwrap();
    let names: Vec<_> = devices.iter().map(Plug::name).collect();
    assert_eq!(names, ["plug.local", "rack"]);
    assert_eq!((devices[1].power_total, devices[1].socket), (true, Some(2)));
}

#[test]
fn devices_that_cannot_be_meant_are_refused() {
    for (yaml, why) in [
        ("{name: x}", "has no `host`"),
        ("{host: \"http://x\"}", "without `http://`"),
        ("{host: x}, {host: x}", "are called \"x\""),
        ("{host: x, socket: 1}", "no `power_total: true`"),
    ] {
        let error = settings(yaml).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
