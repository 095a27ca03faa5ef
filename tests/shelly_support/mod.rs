//! A stand-in for Shelly plugs: responds like the real ones, each generation with its own kind of login.
//! Its login checks are written from RFC 7616 and 7617 and share no code with the client.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::device_support::{page, Server};

pub type Plug = Server<Answers>;

pub const REALM: &str = "shellyplugsg3-aabbccddee33";

/// The login that the plug requires.
#[derive(Clone, Debug)]
pub enum Auth {
    None,
    /// Basic authentication of the first generation: the complete header value.
    Basic(&'static str),
    /// Gen2's and later: the password, how often a nonce may be used, and whether it is then called stale.
    Digest {
        password: &'static str,
        uses: u32,
        says_stale: bool,
    },
}

pub struct Answers {
    pub shelly: String,
    pub status: String,
    pub auth: Auth,
    /// Violations of the protocol by logins.
    pub violations: Vec<String>,
    /// The number of 401 responses.
    pub refusals: usize,
    /// The last count used with each issued nonce.
    nonces: HashMap<String, u32>,
}

pub fn fixture(name: &str) -> String {
    let path = format!(
        "{}/tests/fixtures/shelly/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(path).unwrap()
}

impl Plug {
    pub fn start(shelly: &str, status: &str, auth: Auth) -> Plug {
        Server::of(Answers {
            shelly: shelly.to_string(),
            status: status.to_string(),
            auth,
            violations: Vec::new(),
            refusals: 0,
            nonces: HashMap::new(),
        })
    }

    /// The number of status requests, successful or not.
    pub fn polls(&self) -> usize {
        self.with(|state| {
            state
                .requests
                .iter()
                .filter(|(path, _)| path != "/shelly")
                .count()
        })
    }

    pub fn logins(&self) -> usize {
        self.with(|state| {
            state
                .requests
                .iter()
                .filter(|(_, auth)| auth.is_some())
                .count()
        })
    }
}

impl crate::device_support::Device for Answers {
    fn answer(&mut self, path: &str, authorization: Option<&str>) -> String {
        let ok = |body: &str| {
            let server = "application/json\r\nServer: ShellyHTTP/1.0.0";
            page("200 OK", server, body)
        };
        if path == "/shelly" {
            if authorization.is_some() {
                self.violations
                    .push("a login where none is asked for".to_string());
            }
            return ok(&self.shelly);
        }
        if let Err(challenge) = self.check(path, authorization) {
            self.refusals += 1;
            return format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nUnauthorized"
            );
        }
        let right = if self.shelly.contains("\"gen\"") {
            "/rpc/Shelly.GetStatus"
        } else {
            "/status"
        };
        if path == right {
            ok(&self.status)
        } else {
            "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found".to_string()
        }
    }
}

impl Answers {
    /// `Err` is the challenge of a 401.
    fn check(&mut self, path: &str, authorization: Option<&str>) -> Result<(), String> {
        match self.auth.clone() {
            Auth::None if authorization.is_some() => {
                self.violations
                    .push("a login where none is asked for".to_string());
                Ok(())
            }
            Auth::None => Ok(()),
            Auth::Basic(right) if authorization == Some(right) => Ok(()),
            Auth::Basic(_) => Err(r#"Basic realm="shellyplug-s-DDEEFF""#.to_string()),
            Auth::Digest {
                password,
                uses,
                says_stale,
            } => {
                let verdict = authorization.map(|header| self.verify(header, path, password, uses));
                if verdict == Some(Verdict::Right) {
                    return Ok(());
                }
                let nonce = format!("{}", 1_763_746_991 + self.nonces.len());
                self.nonces.insert(nonce.clone(), 0);
                let stale = if says_stale && verdict == Some(Verdict::TooOld) {
                    ", stale=true"
                } else {
                    ""
                };
                Err(format!(
                    r#"Digest qop="auth", realm="{REALM}", nonce="{nonce}", algorithm=SHA-256{stale}"#
                ))
            }
        }
    }

    fn verify(&mut self, header: &str, path: &str, password: &str, uses: u32) -> Verdict {
        let mut wrong = |what: String| {
            self.violations.push(what);
            Verdict::Wrong
        };
        let Some(fields) = fields(header) else {
            return wrong(format!("not a Digest answer: {header}"));
        };
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        for (name, value) in [
            ("username", "admin"),
            ("realm", REALM),
            ("uri", path),
            ("qop", "auth"),
            ("algorithm", "SHA-256"),
        ] {
            if field(name) != value {
                return wrong(format!("{name} is {:?}, not {value:?}", field(name)));
            }
        }
        if field("cnonce").len() < 8 {
            return wrong(format!("no cnonce in {header}"));
        }
        let count = field("nc");
        let number = u32::from_str_radix(&count, 16).unwrap_or_default();
        if count.len() != 8 || number == 0 {
            return wrong(format!("nc is {count:?}"));
        }
        let sha = |text: String| -> String {
            Sha256::digest(text)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        let a1 = sha(format!("admin:{REALM}:{password}"));
        let a2 = sha(format!("GET:{path}"));
        let (nonce, cnonce) = (field("nonce"), field("cnonce"));
        if field("response") != sha(format!("{a1}:{nonce}:{count}:{cnonce}:auth:{a2}")) {
            return Verdict::Wrong;
        }
        match self.nonces.get_mut(&nonce) {
            None => wrong(format!("the nonce {nonce} was never given out")),
            Some(last) if number <= *last => wrong(format!("nc {number} was used before")),
            Some(last) if number > *last + 1 => wrong(format!("nc jumps to {number}")),
            Some(last) => {
                *last = number;
                if number > uses {
                    Verdict::TooOld
                } else {
                    Verdict::Right
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    TooOld,
}

/// `name=value` and `name="value"`, as the devices parse them.
fn fields(header: &str) -> Option<HashMap<String, String>> {
    let rest = header.strip_prefix("Digest ")?;
    rest.split(", ")
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_string(), value.trim_matches('"').to_string()))
        })
        .collect()
}

/// RFC 7616, 3.9.1: the check itself is right.
#[test]
fn the_check_accepts_the_rfcs_own_answer() {
    let sha = |text: &str| -> String {
        Sha256::digest(text)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let a1 = sha("Mufasa:http-auth@example.org:Circle of Life");
    let a2 = sha("GET:/dir/index.html");
    let middle = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v:00000001:f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ:auth";
    assert_eq!(
        sha(&format!("{a1}:{middle}:{a2}")),
        "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    );
}
