//! Any text as the value of `Authorization`: what is taken is what was sent, whatever is written around it, and is shown
//! to nobody.
#![no_main]

use edge_metrics_exporter::http::access::authorization::Credentials;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = std::str::from_utf8(bytes) else {
        return;
    };
    let parsed = Credentials::parse(value);
    assert_eq!(parsed, Credentials::parse(&format!(" {value}\t")));
    match parsed {
        None => {}
        Some(Credentials::Bearer(token)) => {
            assert!(value.contains(&token) && token.bytes().all(|b| b.is_ascii_graphic()));
            let again = Credentials::parse(&format!("Bearer {token}"));
            assert_eq!(again, Some(Credentials::Bearer(token)));
        }
        Some(Credentials::Basic { user, password }) => {
            assert!(!user.contains(&b':'));
            assert!((user.len() + password.len()) * 4 / 3 <= value.len());
            let scheme = value.trim_matches([' ', '\t']).split(' ').next();
            assert!(scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic")));
            let shown = format!("{:?}", Credentials::Basic { user, password });
            assert_eq!(shown, "Basic (not shown)");
        }
    }
});
