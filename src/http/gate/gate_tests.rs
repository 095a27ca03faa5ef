//! Tests of the gate, with its files.

use super::*;
use crate::http::{parse_head, Limits};

const ALICE: &str =
    "basic_auth_users:\n  alice: $2y$04$VImZYFTlUDU2TXNWm22QY.f.toxyFiLqSW2ZQebdx80pPspviZfJG\n";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// alice:open sesame
const RIGHT: &str = "Basic YWxpY2U6b3BlbiBzZXNhbWU=";
/// alice:x
const WRONG: &str = "Basic YWxpY2U6eA==";

/// Files of one test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Files {
        let dir = std::env::temp_dir().join(format!("eme-gate-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        Files(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A gate that goes by this web configuration.
fn gate_of(web: &Path) -> Result<Arc<Gate>, String> {
    Gate::new(&AccessFiles {
        web_config: Some(web.to_owned()),
        tokens: None,
    })
}

/// What becomes of a request with these headers.
fn ask(gate: &Gate, headers: &[(&str, &str)], certified: bool) -> Result<Login, u16> {
    let mut text = String::from("GET / HTTP/1.1\r\nHost: a\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let (head, _) = parse_head(text.as_bytes(), &Limits::default())
        .unwrap()
        .unwrap();
    let peer = ([192, 0, 2, 1], 1).into();
    let admitted = gate.admit(&gate.policy(), &head, peer, certified);
    admitted.map_err(|refusal| refusal.why.status)
}

fn log_in(gate: &Gate, value: &str) -> Result<Login, u16> {
    ask(gate, &[("authorization", value)], false)
}

/// Has the files looked at again, as if time had passed.
fn later(gate: &Gate) {
    let long_ago = Instant::now().checked_sub(PAUSE).unwrap();
    lock::lock(&gate.watch).looked_at = long_ago;
    let _ = gate.policy();
}

#[test]
fn an_open_gate_asks_for_nothing() {
    let gate = Gate::open();
    assert_eq!(ask(&gate, &[], false), Ok(Login::Nobody));
    assert_eq!(log_in(&gate, WRONG), Ok(Login::Nobody));
    assert!(!gate.is_tls());
}

#[test]
fn users_have_to_log_in() {
    let files = Files::new("users");
    let gate = gate_of(&files.write("web.yml", ALICE)).unwrap();
    assert_eq!(ask(&gate, &[], false), Err(401));
    // Certificates do not stand in for passwords, where there are both.
    assert_eq!(ask(&gate, &[], true), Err(401));
    assert_eq!(log_in(&gate, RIGHT), Ok(Login::Known));
    assert_eq!(log_in(&gate, WRONG), Err(401));
    assert_eq!(log_in(&gate, &format!("Bearer {TOKEN}")), Err(401));
    assert_eq!(log_in(&gate, "Digest x"), Err(401));
    let twice = [("Authorization", RIGHT), ("Authorization", RIGHT)];
    assert_eq!(ask(&gate, &twice, false), Err(401));
    for _ in 0..50 {
        let _ = log_in(&gate, &format!("Bearer {TOKEN}"));
    }
    assert_eq!(log_in(&gate, &format!("Bearer {TOKEN}")), Err(429));
    assert_eq!(log_in(&gate, RIGHT), Ok(Login::Known));
}

#[test]
fn tokens_and_certificates_show_who_it_is() {
    let files = Files::new("tokens");
    let tokens = files.write("tokens", TOKEN);
    let gate = Gate::open();
    gate.set_tokens(Some(&tokens)).unwrap();
    let right = format!("Bearer {TOKEN}");
    assert_eq!(log_in(&gate, &right), Ok(Login::Known));
    // Reading is for everybody.
    assert_eq!(
        log_in(&gate, "Bearer of-something-else"),
        Ok(Login::Missing)
    );
    assert_eq!(ask(&gate, &[], false), Ok(Login::Missing));
    assert_eq!(ask(&gate, &[], true), Ok(Login::Known));
    gate.set_tokens(None).unwrap();
    assert_eq!(log_in(&gate, &right), Ok(Login::Nobody));

    let gate = gate_of(&files.write("web.yml", ALICE)).unwrap();
    gate.set_tokens(Some(&tokens)).unwrap();
    assert_eq!(log_in(&gate, &right), Ok(Login::Known));
    assert_eq!(log_in(&gate, RIGHT), Ok(Login::Known));
    assert_eq!(ask(&gate, &[], false), Err(401));
    let missing = gate
        .set_tokens(Some(Path::new("/nonexistent")))
        .unwrap_err();
    assert!(missing.contains("/nonexistent"), "{missing}");
    assert_eq!(log_in(&gate, &right), Ok(Login::Known));
}

#[test]
fn files_are_read_again_when_they_change() {
    let files = Files::new("live");
    let web = files.write("web.yml", ALICE);
    let tokens = files.write("tokens", TOKEN);
    let gate = gate_of(&web).unwrap();
    gate.set_tokens(Some(&tokens)).unwrap();
    assert_eq!(log_in(&gate, RIGHT), Ok(Login::Known));
    files.write("web.yml", &ALICE.replace("alice", "bob"));
    later(&gate);
    assert_eq!(log_in(&gate, RIGHT), Err(401));
    // As long as it was, it could look the same: a clock of files goes on every few milliseconds.
    files.write("tokens", &TOKEN.replace('0', "xyz"));
    later(&gate);
    assert_eq!(log_in(&gate, &format!("Bearer {TOKEN}")), Err(401));
    // Another file in its place.
    let other = files.write("other.yml", ALICE);
    std::fs::rename(other, &web).unwrap();
    later(&gate);
    assert_eq!(log_in(&gate, RIGHT), Ok(Login::Known));
}

#[test]
fn what_cannot_be_used_changes_nothing() {
    let files = Files::new("broken");
    let web = files.write("web.yml", ALICE);
    let tokens = files.write("tokens", TOKEN);
    let gate = gate_of(&web).unwrap();
    gate.set_tokens(Some(&tokens)).unwrap();
    // The last two are what it is for a moment while it is written.
    for broken in [
        "basic_auth_users: [",
        "basic_auth_users:\n  alice: x\n",
        "",
        "basic_auth_users:",
    ] {
        files.write("web.yml", broken);
        later(&gate);
        assert_eq!(ask(&gate, &[], false), Err(401), "{broken:?}");
        assert_eq!(log_in(&gate, RIGHT), Ok(Login::Known), "{broken:?}");
    }
    // Nor does it open anything when another file of tokens is named just then.
    let other = files.write("other", TOKEN);
    assert!(gate.set_tokens(Some(&other)).is_err());
    assert_eq!(ask(&gate, &[], false), Err(401));
    std::fs::remove_file(&web).unwrap();
    later(&gate);
    assert_eq!(log_in(&gate, RIGHT), Ok(Login::Known));
    files.write("tokens", "");
    later(&gate);
    assert_eq!(log_in(&gate, &format!("Bearer {TOKEN}")), Ok(Login::Known));
    // When it can be used again, it is.
    files.write("tokens", TOKEN);
    files.write("web.yml", &ALICE.replace("alice", "bob"));
    later(&gate);
    assert_eq!(log_in(&gate, RIGHT), Err(401));
}

#[test]
fn errors_at_the_start_name_the_file() {
    let files = Files::new("errors");
    for (name, text, part) in [
        ("junk", "x", "junk:1:1: "),
        ("user", "basic_auth_users:\n  a: b\n", "user:2:6: "),
        (
            "fixed",
            "tls_server_config:\n  min_version: TLS13\n",
            "fixed:2:3: ",
        ),
    ] {
        let error = gate_of(&files.write(name, text)).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let error = gate_of(Path::new("/nonexistent")).unwrap_err();
    assert!(error.contains("/nonexistent: no such file"), "{error}");
    let tls = "tls_server_config:\n  cert_file: no.pem\n  key_file: no.key\n";
    let error = gate_of(&files.write("tls", tls)).unwrap_err();
    let part = match cfg!(feature = "tls") {
        true => "no.pem: no such file",
        false => "build with the feature `tls`",
    };
    assert!(error.contains("/tls: ") && error.contains(part), "{error}");
}
