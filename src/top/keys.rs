//! Key presses, from the bytes that a terminal sends (ECMA-48, xterm's control sequences).

/// A key that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

/// Parameter bytes of a sequence that are kept.
const MAX_PARAMETERS: usize = 8;

/// Where in a sequence the last byte was. A sequence may come in parts.
#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Start,
    Escape,
    /// After `ESC [`, with what came since.
    Csi(Vec<u8>),
    /// After `ESC O`.
    Ss3,
}

/// Finds the keys in what is read.
#[derive(Debug, Default)]
pub(super) struct Keys {
    state: State,
}

impl Keys {
    /// The key that this byte completes.
    pub(super) fn push(&mut self, byte: u8) -> Option<Key> {
        let (state, key) = match (std::mem::take(&mut self.state), byte) {
            (_, 0x1b) => (State::Escape, None),
            (State::Start, byte) => (State::Start, character(byte)),
            (State::Escape, b'[') => (State::Csi(Vec::new()), None),
            (State::Escape, b'O') => (State::Ss3, None),
            // Escape, and then this key; or this key with Alt.
            (State::Escape, byte) => (State::Start, character(byte)),
            (State::Csi(mut parameters), 0x20..=0x3f) => {
                if parameters.len() < MAX_PARAMETERS {
                    parameters.push(byte);
                }
                (State::Csi(parameters), None)
            }
            (State::Csi(parameters), byte) => (State::Start, csi(&parameters, byte)),
            (State::Ss3, byte) => (State::Start, csi(&[], byte)),
        };
        self.state = state;
        key
    }
}

fn character(byte: u8) -> Option<Key> {
    byte.is_ascii().then(|| Key::Char(char::from(byte)))
}

fn csi(parameters: &[u8], last: u8) -> Option<Key> {
    let key = match (parameters, last) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (b"1" | b"7", b'~') => Key::Home,
        (_, b'F') | (b"4" | b"8", b'~') => Key::End,
        (b"5", b'~') => Key::PageUp,
        (b"6", b'~') => Key::PageDown,
        _ => return None,
    };
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|byte| keys.push(*byte)).collect()
    }

    #[test]
    fn keys_of_terminals_are_known() {
        assert_eq!(
            keys(b"q?\x0c"),
            [Key::Char('q'), Key::Char('?'), Key::Char('\x0c')]
        );
        assert_eq!(
            keys(b"\x1b[A\x1b[B\x1bOC\x1bOD\x1b[1;5C"),
            [Key::Up, Key::Down, Key::Right, Key::Left, Key::Right]
        );
        assert_eq!(
            keys(b"\x1b[5~\x1b[6~\x1b[H\x1b[4~\x1b[1~\x1bOF"),
            [
                Key::PageUp,
                Key::PageDown,
                Key::Home,
                Key::End,
                Key::Home,
                Key::End
            ]
        );
    }

    #[test]
    fn other_sequences_are_no_keys() {
        // A paste's brackets, the terminal's answer, F5, UTF-8.
        assert_eq!(keys(b"\x1b[200~\x1b[?62;4c\x1b[15~\xc3\xa9"), []);
        let long = [b"\x1b[".as_slice(), &[b'9'; 100_000], b"~q"].concat();
        assert_eq!(keys(&long), [Key::Char('q')]);
        // Escape alone does not swallow what comes after it.
        assert_eq!(keys(b"\x1b\x1bq"), [Key::Char('q')]);
    }
}
