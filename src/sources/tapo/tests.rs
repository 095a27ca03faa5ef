use super::*;
use crate::sources::SCHEMA;

fn settings(yaml: &str) -> Result<Settings, String> {
    let parsed = SCHEMA.parse(&format!("tapo: {{{yaml}}}"));
    let (config, warnings) = parsed.map_err(|error| error.to_string())?;
    match warnings.first() {
        Some(warning) => Err(warning.message.clone()),
        None => Ok(config.meter()),
    }
}

#[test]
fn login_and_devices_are_read_from_the_configuration() {
    let found = settings(
        "username: me@example.com, password_file: /run/tapo, devices: [{host: plug.local}, \
         {host: \"10.0.0.7:8080\", name: rack, power_total: true, socket: 2}]",
    )
    .unwrap();
    assert_eq!(found.login.username.as_deref(), Some("me@example.com"));
    assert!(found.login.password_file.is_some());
    let names: Vec<_> = found.devices.iter().map(|plug| plug.name()).collect();
    assert_eq!(names, ["plug.local", "rack"]);
    assert_eq!(found.devices[1].socket, Some(2));
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    for (yaml, why) in [
        ("password: x", "no `username`"),
        (
            "username: m, password: x, password_file: /y",
            "has no effect",
        ),
        (
            "devices: [{name: x}]",
            "an item of `tapo.devices` has no `host`",
        ),
        ("devices: [{host: x}, {host: x}]", "are called \"x\""),
        ("devices: [{host: x, socket: 1}]", "no `power_total: true`"),
    ] {
        let error = settings(yaml).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

/// A plug is read anew when the account's login changes.
#[test]
fn login_is_a_setting_of_each_plug() {
    let of = |password: &str| {
        let text = format!("tapo: {{username: m, password: {password}, devices: [{{host: x}}]}}");
        devices(&SCHEMA.parse(&text).unwrap().0)
    };
    assert_eq!(of("a"), of("a"));
    assert_ne!(of("a"), of("b"));
}
