//! Tests of access control, with its files.

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
        let dir = std::env::temp_dir().join(format!("eme-access-{name}-{}", std::process::id()));
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

/// Access control by this web configuration.
fn access_by(web: &Path) -> Result<Arc<AccessControl>, String> {
    AccessControl::new(&AccessFiles {
        web_config: Some(web.to_owned()),
        tokens: None,
    })
}

/// The result of a request with these headers.
fn admit(access: &AccessControl, headers: &[(&str, &str)], certified: bool) -> Result<Login, u16> {
    let mut text = String::from("GET / HTTP/1.1\r\nHost: a\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let (head, _) = parse_head(text.as_bytes(), &Limits::default())
        .unwrap()
        .unwrap();
    let peer = ([192, 0, 2, 1], 1).into();
    let admitted = access.admit(&access.policy(), &head, peer, certified);
    admitted.map_err(|refusal| refusal.why.status)
}

fn log_in(access: &AccessControl, value: &str) -> Result<Login, u16> {
    admit(access, &[("authorization", value)], false)
}

/// Has the files checked again, as if time had passed.
fn check_files(access: &AccessControl) {
    let long_ago = Instant::now().checked_sub(CHECK_INTERVAL).unwrap();
    lock::lock(&access.files).checked_at = long_ago;
    let _ = access.policy();
}

#[test]
fn open_access_needs_no_login() {
    let access = AccessControl::open();
    assert_eq!(admit(&access, &[], false), Ok(Login::NotConfigured));
    assert_eq!(log_in(&access, WRONG), Ok(Login::NotConfigured));
    assert!(!access.is_tls());
}

#[test]
fn configured_users_have_to_log_in() {
    let files = Files::new("users");
    let access = access_by(&files.write("web.yml", ALICE)).unwrap();
    assert_eq!(admit(&access, &[], false), Err(401));
    // Certificates do not stand in for passwords, where there are both.
    assert_eq!(admit(&access, &[], true), Err(401));
    assert_eq!(log_in(&access, RIGHT), Ok(Login::Authenticated));
    assert_eq!(log_in(&access, WRONG), Err(401));
    assert_eq!(log_in(&access, &format!("Bearer {TOKEN}")), Err(401));
    assert_eq!(log_in(&access, "Digest x"), Err(401));
    let twice = [("Authorization", RIGHT), ("Authorization", RIGHT)];
    assert_eq!(admit(&access, &twice, false), Err(401));
    for _ in 0..50 {
        let _ = log_in(&access, &format!("Bearer {TOKEN}"));
    }
    assert_eq!(log_in(&access, &format!("Bearer {TOKEN}")), Err(429));
    assert_eq!(log_in(&access, RIGHT), Ok(Login::Authenticated));
}

#[test]
fn tokens_and_certificates_authenticate() {
    let files = Files::new("tokens");
    let tokens = files.write("tokens", TOKEN);
    let access = AccessControl::open();
    access.set_tokens(Some(&tokens)).unwrap();
    let right = format!("Bearer {TOKEN}");
    assert_eq!(log_in(&access, &right), Ok(Login::Authenticated));
    // Reading is for everybody.
    assert_eq!(
        log_in(&access, "Bearer of-something-else"),
        Ok(Login::Missing)
    );
    assert_eq!(admit(&access, &[], false), Ok(Login::Missing));
    assert_eq!(admit(&access, &[], true), Ok(Login::Certified));
    access.set_tokens(None).unwrap();
    assert_eq!(log_in(&access, &right), Ok(Login::NotConfigured));

    let access = access_by(&files.write("web.yml", ALICE)).unwrap();
    access.set_tokens(Some(&tokens)).unwrap();
    assert_eq!(log_in(&access, &right), Ok(Login::Authenticated));
    assert_eq!(log_in(&access, RIGHT), Ok(Login::Authenticated));
    assert_eq!(admit(&access, &[], false), Err(401));
    let missing = access
        .set_tokens(Some(Path::new("/nonexistent")))
        .unwrap_err();
    assert!(missing.contains("/nonexistent"), "{missing}");
    assert_eq!(log_in(&access, &right), Ok(Login::Authenticated));
}

#[test]
fn changed_files_are_read_again() {
    let files = Files::new("live");
    let web = files.write("web.yml", ALICE);
    let tokens = files.write("tokens", TOKEN);
    let access = access_by(&web).unwrap();
    access.set_tokens(Some(&tokens)).unwrap();
    assert_eq!(log_in(&access, RIGHT), Ok(Login::Authenticated));
    files.write("web.yml", &ALICE.replace("alice", "bob"));
    check_files(&access);
    assert_eq!(log_in(&access, RIGHT), Err(401));
    // As long as it was, it could look the same: a clock of files goes on every few milliseconds.
    files.write("tokens", &TOKEN.replace('0', "xyz"));
    check_files(&access);
    assert_eq!(log_in(&access, &format!("Bearer {TOKEN}")), Err(401));
    // Another file in its place.
    let other = files.write("other.yml", ALICE);
    std::fs::rename(other, &web).unwrap();
    check_files(&access);
    assert_eq!(log_in(&access, RIGHT), Ok(Login::Authenticated));
}

#[test]
fn unusable_files_leave_the_policy_in_force() {
    let files = Files::new("broken");
    let web = files.write("web.yml", ALICE);
    let tokens = files.write("tokens", TOKEN);
    let access = access_by(&web).unwrap();
    access.set_tokens(Some(&tokens)).unwrap();
    // The last two are what it is for a moment while it is written.
    for broken in [
        "basic_auth_users: [",
        "basic_auth_users:\n  alice: x\n",
        "",
        "basic_auth_users:",
    ] {
        files.write("web.yml", broken);
        check_files(&access);
        assert_eq!(admit(&access, &[], false), Err(401), "{broken:?}");
        assert_eq!(
            log_in(&access, RIGHT),
            Ok(Login::Authenticated),
            "{broken:?}"
        );
    }
    // Nor does it open anything when another file of tokens is named just then.
    let other = files.write("other", TOKEN);
    assert!(access.set_tokens(Some(&other)).is_err());
    assert_eq!(admit(&access, &[], false), Err(401));
    std::fs::remove_file(&web).unwrap();
    check_files(&access);
    assert_eq!(log_in(&access, RIGHT), Ok(Login::Authenticated));
    files.write("tokens", "");
    check_files(&access);
    assert_eq!(
        log_in(&access, &format!("Bearer {TOKEN}")),
        Ok(Login::Authenticated)
    );
    // When it can be used again, it is.
    files.write("tokens", TOKEN);
    files.write("web.yml", &ALICE.replace("alice", "bob"));
    check_files(&access);
    assert_eq!(log_in(&access, RIGHT), Err(401));
}

#[test]
fn errors_at_startup_name_the_file() {
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
        let error = access_by(&files.write(name, text)).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let error = access_by(Path::new("/nonexistent")).unwrap_err();
    assert!(error.contains("/nonexistent: no such file"), "{error}");
    let tls = "tls_server_config:\n  cert_file: no.pem\n  key_file: no.key\n";
    let error = access_by(&files.write("tls", tls)).unwrap_err();
    let part = match cfg!(feature = "tls") {
        true => "no.pem: no such file",
        false => "build with the feature `tls`",
    };
    assert!(error.contains("/tls: ") && error.contains(part), "{error}");
}
