//! Any bytes as what a WebSocket's client sends: the same events in whatever pieces they come, and never more kept than a
//! control frame.
#![no_main]

use edge_metrics_exporter::http::websocket::frame::{Decoder, Event, Violation};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = read([bytes].into_iter());
    for size in [1, 3, 7] {
        assert_eq!(read(bytes.chunks(size)), whole, "in pieces of {size}");
    }
});

fn read<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> (Vec<Event>, Option<Violation>) {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for mut piece in pieces {
        loop {
            let before = piece.len();
            match decoder.next(&mut piece) {
                Ok(Some(event)) => {
                    assert!(piece.len() < before || matches!(event, Event::Data));
                    if let Event::Ping(payload) = &event {
                        assert!(payload.len() <= 125);
                    }
                    if let Event::Close(Some(code)) = &event {
                        assert!(
                            (1000..5000).contains(code) && ![1004, 1005, 1006, 1015].contains(code)
                        );
                    }
                    events.push(event);
                }
                Ok(None) => {
                    assert!(piece.is_empty());
                    break;
                }
                Err(violation) => return (events, Some(violation)),
            }
        }
    }
    (events, None)
}
