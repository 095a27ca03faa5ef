//! The connection to a plug: the handshake when it is needed, and one request at a time; recorded or replayed. Handshakes are not
//! recorded: no login, and no seed.

use std::time::{Duration, Instant};

use super::klap::{self, Account, Refused, Session, Version};
use super::settings::Login;
use crate::config::{ClientSettings, Secret};
use crate::http::client::{Answer, Client, Limits};
use crate::sources::host::Host;
use crate::sources::io_log::{escape_word, Failure, IoLog, Response};
use crate::sources::{json_answer, Error};
use crate::sys::{random, reason};

/// The port of the protocol.
const PORT: u16 = 80;
/// The time limit for one answer, including the look-up and the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer. What a P110 says of its use in the last year has three thousand bytes.
const MAX_BODY: u64 = 64 * 1024;
/// The delay after a refused login or handshake. Plugs refuse every login for a while after too many.
const LOGIN_RETRY_DELAY: Duration = Duration::from_secs(60);
/// The shortest time from one handshake to the next. A plug has one session, so that two programs would end each other's.
const HANDSHAKE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a session lasts if the plug does not say.
const SESSION_TIME: Duration = Duration::from_secs(24 * 3600);
/// The name of the session's cookie, and of the time that it lasts.
const SESSION_COOKIE: &str = "TP_SESSIONID";
const TIMEOUT_COOKIE: &str = "TIMEOUT";
/// Bytes of the longest session id.
const MAX_COOKIE: usize = 256;
/// Logins of plugs without an account, of which each app has one. They are no secret.
const WITHOUT_ACCOUNT: [(&str, &str); 3] = [
    ("", ""),
    ("test@tp-link.net", "test"),
    ("kasa@tp-link.net", "kasaSetup"),
];

/// A connection to a plug, with a session when one is needed.
pub(super) struct Connection {
    name: String,
    authority: String,
    login: Login,
    io_log: IoLog,
    client: Option<Client>,
    live: Option<Live>,
    /// When the last handshake was answered.
    shaken: Option<Instant>,
    /// When no further request is sent.
    deadline: Option<Instant>,
    /// Whether the last request had an answer.
    is_answered: bool,
}

/// A session that the plug has accepted.
struct Live {
    session: Session,
    version: Version,
    cookie: Option<String>,
    ends: Instant,
    /// Whether it has had an answer.
    is_used: bool,
}

impl Connection {
    pub(super) fn new(name: &str, host: &str, login: &Login, io_log: &IoLog) -> Connection {
        Connection {
            name: name.to_string(),
            authority: Host::new(host, PORT).authority(),
            login: login.clone(),
            io_log: io_log.clone(),
            client: None,
            live: None,
            shaken: None,
            deadline: None,
            is_answered: false,
        }
    }

    /// Sends no request after `deadline` until this is called again.
    pub(super) fn begin_poll(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// The version of the protocol that the plug has, by a session.
    pub(super) fn version(&mut self) -> Result<Version, Error> {
        let recorded = self.record("handshake", |connection| {
            let live = connection.take_live()?;
            let version = connection.live.insert(live).version;
            Ok(match version {
                Version::First => b"1".to_vec(),
                Version::Second => b"2".to_vec(),
            })
        })?;
        Ok(match recorded.as_slice() {
            b"1" => Version::First,
            _ => Version::Second,
        })
    }

    /// The plug's answer to a request. A session that the plug has ended is begun anew, once.
    pub(super) fn ask(&mut self, request: &str) -> Result<Vec<u8>, Error> {
        let key = format!("ask {}", escape_word(request));
        self.record(&key, |connection| {
            let body = connection.ask_live(request)?;
            Ok(json_answer::without_personal(body))
        })
    }

    /// Forgets the session after a failure, unless the plug was only out of reach: the next request begins one.
    pub(super) fn forget_session(&mut self) {
        if self.is_answered {
            self.live = None;
        }
    }

    /// An error about the plug: `http://192.168.1.40: …`.
    pub(super) fn error(&self, what: &str) -> Error {
        Error::new(format!("http://{}: {what}", self.authority))
    }

    fn record(
        &mut self,
        key: &str,
        perform: impl FnOnce(&mut Connection) -> Result<Vec<u8>, Error>,
    ) -> Result<Vec<u8>, Error> {
        let io_log = self.io_log.clone();
        let mut original = None;
        let response: Response = io_log.record_or_replay(key, || {
            perform(self).map_err(|error| {
                let failure = Failure::new(error.to_string());
                original = Some(error);
                failure
            })
        });
        response.map_err(|failure| original.unwrap_or_else(|| Error::new(failure.message)))
    }

    fn ask_live(&mut self, request: &str) -> Result<Vec<u8>, Error> {
        for _ in 0..2 {
            let mut live = self.take_live()?;
            let (number, body) = live.session.encrypt(request.as_bytes());
            let path = format!("request?seq={number}");
            let answer = self.post(&path, live.cookie.as_deref(), &body);
            let refused = answer
                .as_ref()
                .is_ok_and(|answer| matches!(answer.status, 401 | 403));
            if !refused {
                let text = answer.and_then(|answer| match answer.status {
                    200 => (live.session.decrypt(&answer.body)).map_err(|why| self.error(&why)),
                    status => Err(self.error(&format!("the answer has the status {status}"))),
                });
                live.is_used |= text.is_ok();
                self.live = Some(live);
                return text;
            }
            if !live.is_used {
                let what = "it refuses a new session (status 403)";
                return Err(self.error(what).retry_after(LOGIN_RETRY_DELAY));
            }
        }
        let what = "it ended two sessions in a row";
        Err(self.error(what).retry_after(LOGIN_RETRY_DELAY))
    }

    /// The session, begun if there is none.
    fn take_live(&mut self) -> Result<Live, Error> {
        let live = self.live.take().filter(|live| Instant::now() < live.ends);
        live.map_or_else(|| self.begin(), Ok)
    }

    fn begin(&mut self) -> Result<Live, Error> {
        let next = self.shaken.map(|at| at + HANDSHAKE_INTERVAL);
        let pause = next.map(|next| next.saturating_duration_since(Instant::now()));
        if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
            let seconds = HANDSHAKE_INTERVAL.as_secs();
            let what = format!("a new session waits until the last one is {seconds} s old");
            let hint =
                "since firmware 1.4.0 a plug has one session: does another program read it, too?";
            return Err(self.error(&what).hint(hint).retry_after(pause));
        }
        // Read each time, since it may have been corrected.
        let accounts = accounts(&self.login).map_err(Error::new)?;
        let seed = random::bytes().map_err(|error| {
            Error::new(format!(
                "the kernel has no random numbers: {}",
                reason(&error)
            ))
        })?;
        let answer = self.post("handshake1", None, &seed)?;
        self.shaken = Some(Instant::now());
        if answer.status != 200 {
            return Err(self.refused(1, answer.status));
        }
        let accepted = klap::accept(&seed, &answer.body, &accounts).map_err(|why| match why {
            Refused::NotKlap => self
                .error("it does not answer as a plug with KLAP")
                .hint("is it a Tapo plug? Firmware before KLAP is not read: update it in the app")
                .retry_after(LOGIN_RETRY_DELAY),
            Refused::Login => self.wrong_login(),
        })?;
        let (cookie, time) = cookies(answer.header("Set-Cookie").unwrap_or_default());
        let confirmed = self.post("handshake2", cookie.as_deref(), &accepted.proof)?;
        if confirmed.status != 200 {
            return Err(self.refused(2, confirmed.status));
        }
        let is_own = self.login.username.is_none() || accepted.account < OWN_ACCOUNTS;
        if !is_own {
            log::info!(
                "tapo {}: the plug accepts the login of a plug without an account",
                self.name
            );
        }
        Ok(Live {
            session: accepted.session,
            version: accepted.version,
            cookie,
            // The plug's clock may be fast.
            ends: Instant::now() + time.mul_f64(0.9),
            is_used: false,
        })
    }

    fn refused(&self, handshake: u32, status: u16) -> Error {
        let what = format!("it refuses the handshake (handshake{handshake}, status {status})");
        let error = self.error(&what).retry_after(LOGIN_RETRY_DELAY);
        match status {
            401 | 403 => error.hint(
                "in the app of Tapo or Kasa, switch Third-Party Compatibility on (Me > Third-Party Services); \
                 if it is on: off and on again, also after each update of the firmware",
            ),
            404 => error.hint("is it a Tapo plug? Firmware before KLAP is not read: update it in the app"),
            _ => error,
        }
    }

    fn wrong_login(&self) -> Error {
        let error = match self.login.username {
            Some(_) => self.error("it refuses the login").hint(
                "tapo.username and tapo.password_file are the e-mail address and the password of the app's account, \
                 in capital and small letters as they were when the plug was added",
            ),
            None => self
                .error("it belongs to an account of TP-Link's app")
                .hint("set tapo.username and tapo.password_file"),
        };
        error.retry_after(LOGIN_RETRY_DELAY)
    }

    fn post(&mut self, path: &str, cookie: Option<&str>, body: &[u8]) -> Result<Answer, Error> {
        if is_late(self.deadline) {
            return Err(self.error("it answers too slowly to be read"));
        }
        let url = format!("http://{}/app/{path}", self.authority);
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let limits = Limits {
                    timeout: ANSWER_TIMEOUT,
                    body: MAX_BODY,
                };
                let client = Client::new(ClientSettings::default(), limits);
                client.map_err(|error| Error::new(error.to_string()))?
            }
        };
        let client = self.client.insert(client);
        let mut headers = vec![("Content-Type", "application/octet-stream")];
        headers.extend(cookie.map(|cookie| ("Cookie", cookie)));
        self.is_answered = false;
        let mut answer = client.post(&url, &headers, body);
        // A plug may close the connection between two requests.
        if answer.is_err() && !is_late(self.deadline) {
            answer = client.post(&url, &headers, body);
        }
        let answer = answer.map_err(|error| Error::new(error.to_string()))?;
        self.is_answered = true;
        match answer.whole {
            true => Ok(answer),
            false => Err(self.error("the answer is longer than any plug's")),
        }
    }
}

fn is_late(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// How many of the accounts are the configured one's: by the name as it is and in small letters, in both versions.
const OWN_ACCOUNTS: usize = 4;

/// The logins that a plug may know: the configured one, and those of a plug without an account. The error is for people.
fn accounts(login: &Login) -> Result<Vec<Account>, String> {
    let username = login.username.as_deref().unwrap_or_default();
    let password = match (&login.password, &login.password_file) {
        (Some(password), _) => password.clone(),
        (None, Some(path)) => Secret::read(path)?,
        (None, None) => Secret::new(""),
    };
    let small = username.to_lowercase();
    let own = [username, &small].map(|username| (username, password.reveal()));
    let logins = own.into_iter().chain(WITHOUT_ACCOUNT);
    Ok(logins
        .flat_map(|(username, password)| {
            [Version::Second, Version::First]
                .map(|version| Account::new(version, username, password))
        })
        .collect())
}

/// The session's cookie as it is sent back, and how long it lasts.
fn cookies(header: &str) -> (Option<String>, Duration) {
    let of = |name: &str| {
        let mut parts = header
            .split(';')
            .filter_map(|part| part.trim().split_once('='));
        let (_, value) = parts.find(|(key, _)| *key == name)?;
        let is_sent =
            value.len() <= MAX_COOKIE && value.bytes().all(|byte| byte.is_ascii_graphic());
        is_sent.then_some(value)
    };
    let cookie = of(SESSION_COOKIE).map(|value| format!("{SESSION_COOKIE}={value}"));
    let seconds = of(TIMEOUT_COOKIE).and_then(|value| value.parse().ok());
    let time = seconds
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs);
    (cookie, time.unwrap_or(SESSION_TIME).min(SESSION_TIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_those_of_the_session() {
        for (header, cookie, seconds) in [
            (
                "TP_SESSIONID=AB12;TIMEOUT=86400",
                Some("TP_SESSIONID=AB12"),
                86_400,
            ),
            (
                "TP_SESSIONID=AB12; TIMEOUT=1440; Path=/",
                Some("TP_SESSIONID=AB12"),
                1440,
            ),
            ("TIMEOUT=99999999999", None, 86_400),
            ("TP_SESSIONID=a b;TIMEOUT=0", None, 86_400),
            ("TP_SESSIONID=x;TIMEOUT=-5", Some("TP_SESSIONID=x"), 86_400),
            ("TP_SESSIONID;TIMEOUT", None, 86_400),
            ("", None, 86_400),
        ] {
            let found = cookies(header);
            assert_eq!(
                (found.0.as_deref(), found.1.as_secs()),
                (cookie, seconds),
                "{header}"
            );
        }
        assert_eq!(
            cookies(&format!("TP_SESSIONID={}", "x".repeat(300))).0,
            None
        );
    }

    #[test]
    fn logins_of_plugs_without_an_account_come_last() {
        let login = Login {
            username: Some("Me@Example.com".to_string()),
            password: Some(Secret::new("x")),
            password_file: None,
        };
        let found = accounts(&login).unwrap();
        assert_eq!(found.len(), OWN_ACCOUNTS + 2 * WITHOUT_ACCOUNT.len());
        let missing = Login {
            password: None,
            password_file: Some("/nonexistent".into()),
            ..login
        };
        assert!(accounts(&missing).is_err());
    }
}
