use super::*;

/// A masked frame, as a client sends it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..=125 => frame.push(0x80 | n as u8),
        n @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((n as u16).to_be_bytes());
        }
        n => {
            frame.push(0x80 | 127);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
    frame
}

fn read(mut bytes: &[u8]) -> Result<Vec<Event>, Violation> {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    while let Some(event) = decoder.next(&mut bytes)? {
        events.push(event);
    }
    assert!(bytes.is_empty());
    Ok(events)
}

/// RFC 6455, 5.7.
#[test]
fn examples_of_rfc_6455() {
    let mut out = Vec::new();
    write_frame(FrameKind::Text, b"Hello", &mut out);
    assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    out.clear();
    write_frame(FrameKind::Ping, b"Hello", &mut out);
    assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    let pong = [
        0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(read(&pong), Ok(vec![Event::Pong]));
}

#[test]
fn lengths_are_written_in_the_shortest_form() {
    for (length, start) in [
        (125, &[0x81, 125][..]),
        (126, &[0x81, 126, 0, 126]),
        (0xffff, &[0x81, 126, 0xff, 0xff]),
        (0x10000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut out = Vec::new();
        write_frame(FrameKind::Text, &vec![b'x'; length], &mut out);
        assert!(out.starts_with(start), "{length}");
        assert_eq!(out.len(), start.len() + length);
    }
}

#[test]
fn close_reason_is_cut_between_characters() {
    assert_eq!(close_payload(1013, "ab"), b"\x03\xf5ab");
    let long = close_payload(1000, &"\u{fc}".repeat(100));
    assert_eq!(long.len(), 2 + 122);
    assert!(std::str::from_utf8(&long[2..]).is_ok());
}

#[test]
fn frames_are_decoded_from_any_pieces() {
    let mut bytes = masked(0x01, b"Hel");
    bytes.extend(masked(0x89, b"ping"));
    bytes.extend(masked(0x80, &[b'x'; 300]));
    bytes.extend(masked(0x82, &[0; 0x10000]));
    bytes.extend(masked(0x8a, b""));
    bytes.extend(masked(0x88, b"\x03\xe8bye"));
    bytes.extend(masked(0x88, b""));
    let events = [
        Event::Data,
        Event::Ping(b"ping".to_vec()),
        Event::Data,
        Event::Data,
        Event::Pong,
        Event::Close(Some(1000)),
        Event::Close(None),
    ];
    assert_eq!(read(&bytes), Ok(events.to_vec()));
    for size in [1, 2, 3, 5, 7, 1000] {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for mut piece in bytes.chunks(size) {
            while let Some(event) = decoder.next(&mut piece).unwrap() {
                found.push(event);
            }
            assert!(piece.is_empty());
        }
        assert_eq!(found, events, "in pieces of {size}");
    }
}

#[test]
fn violations_of_rfc_6455_are_reported() {
    let refused = [
        ("reserved bit", masked(0xc1, b"")),
        ("not masked", vec![0x81, 0x01, b'x']),
        ("not masked, nothing more", vec![0x81, 0x01]),
        ("continuation of nothing", masked(0x80, b"")),
        (
            "message in message",
            [masked(0x01, b""), masked(0x81, b"")].concat(),
        ),
        ("unknown data", masked(0x83, b"")),
        ("unknown control", masked(0x8b, b"")),
        ("control in pieces", masked(0x09, b"")),
        ("control too long", masked(0x89, &[0; 126])),
        ("half a code", masked(0x88, b"\x03")),
        ("code 1005", masked(0x88, b"\x03\xed")),
        ("code 999", masked(0x88, b"\x03\xe7")),
        ("code 5000", masked(0x88, b"\x13\x88")),
        (
            "length in two bytes for nothing",
            vec![0x81, 0xfe, 0, 125, 0, 0, 0, 0],
        ),
        (
            "length in eight bytes for nothing",
            vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
        ),
    ];
    for (what, bytes) in refused {
        let violation = read(&bytes).unwrap_err();
        assert_eq!(violation.code, close::PROTOCOL_ERROR, "{what}");
    }
    let text = read(&masked(0x88, b"\x03\xe8\xff")).unwrap_err();
    assert_eq!(text.code, close::INVALID_TEXT);
    for length in [0x1_0001_u64, u64::MAX] {
        let mut bytes = vec![0x82, 0xff];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4]);
        assert_eq!(read(&bytes).unwrap_err().code, close::TOO_BIG);
    }
}
