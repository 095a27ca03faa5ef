//! A store that is an etcd cluster, shared by several servers: its v3 API by the JSON gateway.
//!
//! A configuration is the value of `PREFIX/config/ID`, a note that of `PREFIX/note/ID`. A change is a transaction that
//! compares the key's `mod_revision`: of two servers that change one state, one succeeds.
//!
//! Where etcd has users, it is given a name and a password once, and then the token that it gave for them, until it does not
//! know that any more (etcd's manual, "Authentication guide").

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::etcd_json as words;
use super::etcd_watch::EtcdWatch;
use super::store::{Change, Changes, Failure, Look, Store, Stored, MAX_DEVICES};
use crate::config::Secret;
use crate::config::{check_url, BasicAuth, ClientSettings as Settings, ClientTls as Tls};
use crate::http::client::{Answer, Client, Limits};
use crate::sys::lock;
use crate::wire::DeviceId;

const PORT: u16 = 2379;
const JSON: (&str, &str) = ("Content-Type", "application/json");
const DEFAULT_PREFIX: &str = "edge-metrics-exporter";
/// For one question, if there is one member to ask.
const PATIENCE: Duration = Duration::from_secs(5);
/// For each of several: one that is switched off does not answer at all.
const PATIENCE_OF_ONE: Duration = Duration::from_millis(1500);
/// So many keys are asked for at once; a configuration has at most 64 KiB, a third more in base64.
const PAGE: usize = 100;
const MAX_ANSWER: u64 = 16 << 20;
const MAX_MEMBERS: usize = 9;

/// One of the cluster.
struct Member {
    base: String,
    client: Client,
}

pub(super) struct Etcd {
    cluster: Arc<Cluster>,
    watch: EtcdWatch,
}

/// An etcd, and how it is asked.
pub(super) struct Cluster {
    members: Vec<Member>,
    /// The member that answered last.
    current: AtomicUsize,
    prefix: String,
    place: String,
    login: Option<BasicAuth>,
    /// What etcd gave for the login.
    token: Mutex<Option<Secret>>,
}

impl Etcd {
    /// As [`Cluster::new`].
    pub(super) fn new(scheme: &str, place: &str, settings: Settings) -> Result<Etcd, String> {
        let cluster = Arc::new(Cluster::new(scheme, place, settings)?);
        let watch = EtcdWatch::new(Arc::clone(&cluster));
        Ok(Etcd { cluster, watch })
    }
}

impl Cluster {
    /// `host:port,host:port/prefix`, after `etcd://`, or after `etcds://`, by TLS. Nothing is asked yet: etcd may come up later
    /// than we do.
    fn new(scheme: &str, place: &str, mut settings: Settings) -> Result<Cluster, String> {
        let wrong = |why: &str| {
            format!("--store {scheme}://{place}: {why}, such as {scheme}://host:2379/prefix")
        };
        let file = |why: &str| format!("--store.http.config.file: {why}");
        let http = match scheme {
            "etcds" if cfg!(not(feature = "tls")) => {
                return Err(wrong("this build has no TLS; without it there is etcd://"))
            }
            "etcds" => "https",
            _ if settings.tls != Tls::default() => {
                return Err(file(
                    "there is a `tls_config`, and --store etcd:// is without TLS: write etcds://",
                ));
            }
            _ => "http",
        };
        if settings.authorization.is_some() {
            return Err(file(
                "etcd knows users: write a `basic_auth` in the place of `authorization`",
            ));
        }
        let login = settings.basic_auth.take();
        if let Some(login) = &login {
            login.password.get().map_err(|why| file(&why))?;
        }
        let (hosts, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() {
            DEFAULT_PREFIX
        } else {
            prefix
        };
        if !prefix.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong("a prefix of plain characters is wanted"));
        }
        let hosts_named: Vec<&str> = hosts.split(',').collect();
        let timeout = match hosts_named.len() {
            1 => PATIENCE,
            _ => PATIENCE_OF_ONE,
        };
        let limits = Limits {
            timeout,
            body: MAX_ANSWER,
        };
        let mut members = Vec::new();
        for host in hosts_named {
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
            if host.is_empty() || !host.chars().all(plain) {
                return Err(wrong("hosts are wanted"));
            }
            let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
                port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']'))
            });
            let base = match has_port {
                true => format!("{http}://{host}"),
                false => format!("{http}://{host}:{PORT}"),
            };
            check_url(&base).map_err(wrong)?;
            let client = Client::new(settings.clone(), limits);
            let client = client.and_then(|client| client.check(&base).map(|()| client));
            members.push(Member {
                base,
                client: client.map_err(|e| wrong(&e.to_string()))?,
            });
        }
        if members.len() > MAX_MEMBERS {
            return Err(wrong("fewer hosts are wanted"));
        }
        Ok(Cluster {
            members,
            current: AtomicUsize::new(0),
            prefix: format!("/{prefix}"),
            place: format!("{scheme}://{hosts}/{prefix}"),
            login,
            token: Mutex::default(),
        })
    }

    fn configs(&self) -> String {
        format!("{}/config/", self.prefix)
    }

    fn notes(&self) -> String {
        format!("{}/note/", self.prefix)
    }

    fn key(&self, id: &DeviceId) -> String {
        format!("{}{id}", self.configs())
    }

    fn note_key(&self, id: &DeviceId) -> String {
        format!("{}{id}", self.notes())
    }

    /// etcd's count of changes.
    pub(super) fn revision(&self) -> Result<u64, Failure> {
        // Any key will do.
        let question = words::get(&self.configs());
        let range = self.ask("/v3/kv/range", &question, words::parse_range)?;
        Ok(range.revision)
    }

    /// What happens from this revision on, line by line, for so long at most. The error is for people.
    pub(super) fn watch(&self, from: u64, time: Duration) -> Result<impl Read + 'static, String> {
        let place = self.current.load(Ordering::Relaxed) % self.members.len().max(1);
        let member = self.members.get(place).ok_or("there is no member")?;
        let url = format!("{}/v3/watch", member.base);
        let watches = [self.configs(), self.notes()];
        let watches = watches.map(|prefix| words::watch(&prefix, from).to_string());
        let held = lock::lock(&self.token).clone();
        let token = match (&self.login, held) {
            (None, _) => None,
            (Some(_), Some(token)) => Some(token),
            (Some(login), None) => Some(Cluster::log_in(member, login)?),
        };
        let login = token
            .as_ref()
            .map(|token| ("Authorization", token.reveal()));
        let headers: Vec<_> = [JSON].into_iter().chain(login).collect();
        let body = watches.join("\n");
        let stream = member
            .client
            .post_for_stream(&url, &headers, body.as_bytes(), time);
        stream.map_err(|e| e.to_string())
    }

    /// What an event is to us; `None`: it is somebody else's key.
    pub(super) fn change(&self, event: words::Event) -> Option<Change> {
        let words::Event { pair, deleted } = event;
        let key = std::str::from_utf8(&pair.key).ok()?;
        let id = |prefix: &str| DeviceId::parse(key.strip_prefix(prefix)?).ok();
        match (id(&self.configs()), deleted) {
            (Some(id), true) => Some(Change::Removed(id, pair.revision)),
            (Some(id), false) => Some(Change::Put(id, stored(pair))),
            (None, true) => None,
            (None, false) => {
                let id = id(&self.notes())?;
                Some(Change::Noted(id, String::from_utf8(pair.value).ok()?))
            }
        }
    }

    /// Asks a member, and the next one if that does not answer.
    fn ask<T>(
        &self,
        path: &str,
        question: &Value,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let body = question.to_string();
        let first = self.current.load(Ordering::Relaxed);
        let mut why = String::new();
        for turn in 0..self.members.len() {
            let place = (first + turn) % self.members.len();
            let Some(member) = self.members.get(place) else {
                break;
            };
            let url = format!("{}{path}", member.base);
            match self.ask_member(member, &url, body.as_bytes()) {
                Ok(answer) if answer.status == 200 && answer.whole => {
                    self.current.store(place, Ordering::Relaxed);
                    return read(&answer.body)
                        .map_err(|e| Failure::Away(format!("{url}: not an answer of etcd: {e}")));
                }
                Ok(answer) => {
                    let said = words::parse_error(&answer.body);
                    why = format!("{url}: status {}: {said}", answer.status);
                }
                Err(error) => why = error,
            }
        }
        Err(Failure::Away(format!(
            "the store {} does not answer: {why}",
            self.place
        )))
    }

    /// Asks one member, logged in if there is a login.
    fn ask_member(&self, member: &Member, url: &str, body: &[u8]) -> Result<Answer, String> {
        let post = |token: Option<&str>| {
            let login = token.map(|token| ("Authorization", token));
            let headers: Vec<_> = [JSON].into_iter().chain(login).collect();
            member
                .client
                .post(url, &headers, body)
                .map_err(|e| e.to_string())
        };
        let Some(login) = &self.login else {
            return post(None);
        };
        let held = lock::lock(&self.token).clone();
        if let Some(token) = held {
            let answer = post(Some(token.reveal()))?;
            // 401: the token is not known any more; 400 is said too when users were changed since it was given.
            if !matches!(answer.status, 400 | 401) {
                return Ok(answer);
            }
        }
        let token = Cluster::log_in(member, login)?;
        let answer = post(Some(token.reveal()));
        *lock::lock(&self.token) = Some(token);
        answer
    }

    fn log_in(member: &Member, login: &BasicAuth) -> Result<Secret, String> {
        let url = format!("{}/v3/auth/authenticate", member.base);
        let question = words::authenticate(&login.username, login.password.get()?.reveal());
        let answer = member
            .client
            .post(&url, &[JSON], question.to_string().as_bytes());
        let answer = answer.map_err(|e| e.to_string())?;
        match answer.status {
            200 => words::parse_token(&answer.body)
                .map_err(|e| format!("{url}: not an answer of etcd: {e}")),
            status => {
                let said = words::parse_error(&answer.body);
                Err(format!(
                    "{url}: {}: status {status}: {said}",
                    login.username
                ))
            }
        }
    }

    /// All pairs whose keys begin with `prefix`, by the rest of the key.
    fn all(
        &self,
        prefix: &str,
        found: &mut dyn FnMut(DeviceId, words::Pair),
    ) -> Result<(), Failure> {
        let mut count = 0;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let question = words::range(prefix, after.as_deref(), PAGE);
            let page = self.ask("/v3/kv/range", &question, words::parse_range)?;
            after = page.pairs.last().map(|pair| pair.key.clone());
            for pair in page.pairs {
                let id = std::str::from_utf8(&pair.key).ok();
                let id = id.and_then(|key| DeviceId::parse(key.strip_prefix(prefix)?).ok());
                // What somebody else has put there is none of ours.
                if let Some(id) = id {
                    count += 1;
                    found(id, pair);
                }
            }
            if !page.more || after.is_none() || count > MAX_DEVICES {
                return Ok(());
            }
        }
    }
}

impl Store for Etcd {
    fn get(&self, id: &DeviceId) -> Result<Option<Stored>, Failure> {
        let question = words::get(&self.cluster.key(id));
        let range = self
            .cluster
            .ask("/v3/kv/range", &question, words::parse_range)?;
        Ok(range.pairs.into_iter().next().map(stored))
    }

    fn changes(&self) -> Result<Changes, Failure> {
        self.watch.changes()
    }

    fn look(&self, id: &DeviceId, _known: Option<u64>) -> Result<Look, Failure> {
        Ok(self.get(id)?.map_or(Look::Gone, Look::New))
    }

    fn scan(
        &self,
        known: &dyn Fn(&DeviceId) -> Option<u64>,
        found: &mut dyn FnMut(DeviceId, Result<Look, Failure>),
    ) -> Result<(), Failure> {
        self.cluster.all(&self.cluster.configs(), &mut |id, pair| {
            let look = match known(&id) == Some(pair.revision) {
                true => Look::Same,
                false => Look::New(stored(pair)),
            };
            found(id, Ok(look));
        })
    }

    fn has_sure_revisions(&self) -> bool {
        true
    }

    fn swap(
        &self,
        id: &DeviceId,
        expected: Option<&Stored>,
        text: Option<&str>,
    ) -> Result<bool, Failure> {
        if expected.is_none() && text.is_some() {
            let question = words::count(&self.cluster.configs());
            let range = self
                .cluster
                .ask("/v3/kv/range", &question, words::parse_range)?;
            if range.count >= MAX_DEVICES as u64 {
                return Err(Failure::Full);
            }
        }
        let revision = expected.map_or(0, |stored| stored.revision);
        let question = words::swap(
            &self.cluster.key(id),
            revision,
            text,
            &self.cluster.note_key(id),
        );
        self.cluster.ask("/v3/kv/txn", &question, words::parse_swap)
    }

    fn note(&self, id: &DeviceId, note: &str) -> Result<(), Failure> {
        let question = words::put(&self.cluster.note_key(id), note);
        self.cluster.ask("/v3/kv/put", &question, |_| Ok(()))
    }

    fn note_on(&self, id: &DeviceId) -> Result<Option<String>, Failure> {
        let question = words::get(&self.cluster.note_key(id));
        let range = self
            .cluster
            .ask("/v3/kv/range", &question, words::parse_range)?;
        let pair = range.pairs.into_iter().next();
        Ok(pair.and_then(|pair| String::from_utf8(pair.value).ok()))
    }

    fn notes(&self) -> Result<Vec<(DeviceId, String)>, Failure> {
        let mut all = Vec::new();
        self.cluster.all(&self.cluster.notes(), &mut |id, pair| {
            all.extend(String::from_utf8(pair.value).ok().map(|note| (id, note)));
        })?;
        Ok(all)
    }

    fn describe(&self) -> String {
        self.cluster.place.clone()
    }
}

fn stored(pair: words::Pair) -> Stored {
    Stored {
        text: pair.value,
        revision: pair.revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_etcd() {
        for (place, members, prefix) in [
            (
                "localhost",
                &["http://localhost:2379"][..],
                "/edge-metrics-exporter",
            ),
            ("localhost:1/a/b/", &["http://localhost:1"], "/a/b"),
            (
                "[::1],10.0.0.1:23,c/",
                &["http://[::1]:2379", "http://10.0.0.1:23", "http://c:2379"],
                "/edge-metrics-exporter",
            ),
        ] {
            let etcd =
                Etcd::new("etcd", place, Settings::default()).unwrap_or_else(|e| panic!("{e}"));
            let found: Vec<_> = etcd
                .cluster
                .members
                .iter()
                .map(|member| member.base.as_str())
                .collect();
            assert_eq!(
                (found.as_slice(), etcd.cluster.prefix.as_str()),
                (members, prefix),
                "{place}"
            );
        }
        for bad in [
            "",
            "/prefix",
            "a,,b/x",
            "a b/x",
            "user@host/x",
            "a/ü",
            "a/x y",
        ] {
            let error = Etcd::new("etcd", bad, Settings::default())
                .err()
                .unwrap_or_default();
            assert!(error.contains("etcd://host:2379/prefix"), "{bad}: {error}");
        }
    }

    #[test]
    fn an_etcd_that_is_not_there_is_said_to_be_away() {
        // Nobody is given this port by chance.
        let place = "127.0.0.1:1";
        let place_twice = format!("{place},{place}/x");
        let etcd = Etcd::new("etcd", &place_twice, Settings::default()).unwrap();
        let id = DeviceId::parse("edge-01").unwrap();
        match etcd.get(&id) {
            Err(Failure::Away(why)) => {
                assert!(why.contains(place) && why.contains("etcd://"), "{why}")
            }
            other => panic!("{other:?}"),
        }
    }
}
