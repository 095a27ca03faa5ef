//! Any bytes as a Shelly's answers: channels that are few, named by us, and have finite values.
#![no_main]

use edge_metrics_exporter::sources::shelly::identity::Identity;
use edge_metrics_exporter::sources::shelly::status::{Channel, MAX_CHANNELS};
use edge_metrics_exporter::sources::shelly::{gen1, gen2};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(identity) = Identity::parse(bytes) {
        assert!(!identity.mac.is_empty() && identity.mac.chars().count() <= 64);
        assert!(!identity.mac.contains('\n') && !identity.model.contains('\n'));
    }
    for parsed in [gen1::parse(bytes), gen2::parse(bytes)] {
        match parsed {
            Ok(channels) => check(&channels),
            Err(why) => assert!(!why.is_empty() && why.len() < 100),
        }
    }
});

fn check(channels: &[Channel]) {
    assert!(channels.len() <= MAX_CHANNELS);
    for (i, channel) in channels.iter().enumerate() {
        assert!(!channel.is_empty());
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b':' || b == b'/';
        assert!(
            channel.name.len() <= 16 && channel.name.bytes().all(legal),
            "{channel:?}"
        );
        assert!(
            channels[..i].iter().all(|other| other.name != channel.name),
            "{channel:?} twice"
        );
        let energies = [&channel.energy, &channel.returned];
        let energies = energies
            .iter()
            .flat_map(|e| e.minutes.into_iter().chain([e.total, e.minute_began]));
        let values = [
            channel.watts,
            channel.volts,
            channel.amperes,
            channel.power_factor,
            channel.hertz,
            channel.celsius,
            channel.fahrenheit,
        ];
        let all = values.into_iter().chain(energies);
        assert!(all.flatten().all(f64::is_finite), "{channel:?}");
    }
}
