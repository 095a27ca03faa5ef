//! A store in an etcd cluster, which several servers may share: the v3 API, through the JSON gateway.
//!
//! `PREFIX/config/ID` is the key of a configuration, `PREFIX/note/ID` that of a note, `PREFIX/groups/NAME` that of a group. A change
//! is a transaction that compares the keys' `mod_revision`: if two servers change the same state, one of them succeeds.
//!
//! If etcd has users, the server logs in with name and password, and sends the token that etcd returned until etcd no longer
//! accepts it (etcd's manual, "Authentication guide").

use std::io::Read;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::etcd_json as messages;
use super::etcd_transactions::EtcdTransactions;
use super::etcd_watch::EtcdWatch;
use super::store::{
    Change, Changes, Documents, Lookup, RecordHeads, Store, StoreError, Stored, MAX_DEVICES,
    MAX_GROUPS,
};
use super::transaction::{Kind, Outcome, Transaction, TransactionId};
use crate::config::Secret;
use crate::config::{check_url, BasicAuth, ClientSettings as Settings, ClientTls as Tls};
use crate::http::client::{Answer, Client, Limits};
use crate::sys::lock;
use crate::wire::DeviceId;

const DEFAULT_PORT: u16 = 2379;
const JSON: (&str, &str) = ("Content-Type", "application/json");
const DEFAULT_PREFIX: &str = "edge-metrics-exporter";
/// The timeout of a request to the only member.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout per member if there are several: a member that is switched off does not answer at all.
const MEMBER_TIMEOUT: Duration = Duration::from_millis(1500);
/// The number of keys per request. A configuration has at most 64 KiB, and a third more in base64.
const PAGE_SIZE: usize = 100;
const MAX_RESPONSE: u64 = 16 << 20;
const MAX_MEMBERS: usize = 9;
/// The other servers must not take a board for silent: see `POLL_GRACE` in `device`.
const MAX_NOTE_AGE: Duration = Duration::from_secs(60);

/// A member of the cluster.
struct Member {
    base: String,
    client: Client,
}

pub(super) struct Etcd {
    cluster: Arc<Cluster>,
    devices: Keys,
    groups: Keys,
    transactions: EtcdTransactions,
}

/// The keys of one kind.
struct Keys {
    cluster: Arc<Cluster>,
    prefix: String,
    /// What they are, in the plural.
    what: &'static str,
    limit: usize,
    /// Whether there are notes on them.
    has_notes: bool,
    news: News,
}

/// How changes of keys are noticed.
enum News {
    /// A watch tells them.
    Watch(Arc<EtcdWatch>),
    /// What [`Cluster::newest`] had last is compared. For keys that are few, and all of which each request needs. The watch may
    /// tell that this need not be asked for.
    Newest(Mutex<Option<Newest>>, Arc<EtcdWatch>),
}

/// What identifies the state of some keys.
#[derive(Debug, Clone, Copy)]
struct Newest {
    /// The greatest `mod_revision` of the keys, and their number. Every put raises the first, and a deletion without a put
    /// lowers the second: so with the same two the keys have the same values.
    state: (u64, u64),
    /// etcd's revision at the time.
    at: u64,
}

/// The client of an etcd cluster.
pub(super) struct Cluster {
    members: Vec<Member>,
    /// The index of the member that answered last.
    current: AtomicUsize,
    /// etcd's greatest revision in an answer to [`Cluster::get`].
    answered: AtomicU64,
    prefix: String,
    location: String,
    login: Option<BasicAuth>,
    /// The token that etcd returned for the login.
    token: Mutex<Option<Secret>>,
}

impl Etcd {
    /// As [`Cluster::new`].
    pub(super) fn new(scheme: &str, location: &str, settings: Settings) -> Result<Etcd, String> {
        let cluster = Arc::new(Cluster::new(scheme, location, settings)?);
        let keys = |prefix, what, limit, has_notes, news| Keys {
            cluster: Arc::clone(&cluster),
            prefix,
            what,
            limit,
            has_notes,
            news,
        };
        let watch = Arc::new(EtcdWatch::new(Arc::clone(&cluster)));
        let newest = News::Newest(Mutex::default(), Arc::clone(&watch));
        let watch = News::Watch(watch);
        let devices = keys(cluster.configs(), "devices", MAX_DEVICES, true, watch);
        let groups = keys(cluster.groups(), "groups", MAX_GROUPS, false, newest);
        Ok(Etcd {
            transactions: EtcdTransactions::new(Arc::clone(&cluster)),
            cluster,
            devices,
            groups,
        })
    }
}

impl Cluster {
    /// The cluster at `host:port,host:port/prefix`. `scheme` is `etcd`, or `etcds` for TLS. Sends no request yet: etcd may
    /// start later than this server.
    fn new(scheme: &str, location: &str, mut settings: Settings) -> Result<Cluster, String> {
        let wrong = |why: &str| {
            format!("--store {scheme}://{location}: {why}, such as {scheme}://host:2379/prefix")
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
        let (hosts, prefix) = location.split_once('/').unwrap_or((location, ""));
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() {
            DEFAULT_PREFIX
        } else {
            prefix
        };
        if !prefix.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong("a prefix of plain characters is wanted"));
        }
        let host_list: Vec<&str> = hosts.split(',').collect();
        let timeout = match host_list.len() {
            1 => REQUEST_TIMEOUT,
            _ => MEMBER_TIMEOUT,
        };
        let limits = Limits {
            timeout,
            body: MAX_RESPONSE,
        };
        let mut members = Vec::new();
        for host in host_list {
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
            if host.is_empty() || !host.chars().all(plain) {
                return Err(wrong("hosts are wanted"));
            }
            let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
                port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']'))
            });
            let base = match has_port {
                true => format!("{http}://{host}"),
                false => format!("{http}://{host}:{DEFAULT_PORT}"),
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
            answered: AtomicU64::new(0),
            prefix: format!("/{prefix}"),
            location: format!("{scheme}://{hosts}/{prefix}"),
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

    fn groups(&self) -> String {
        format!("{}/groups/", self.prefix)
    }

    /// What all keys of this server begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the keys of this kind of documents begin with, what they are in the plural, and how many there may be.
    pub(super) fn keys_of(&self, kind: Kind) -> (String, &'static str, usize) {
        match kind {
            Kind::Group => (self.groups(), "groups", MAX_GROUPS),
            Kind::Device => (self.configs(), "devices", MAX_DEVICES),
        }
    }

    /// The number of keys that begin with `prefix`.
    pub(super) fn count(&self, prefix: &str) -> Result<usize, StoreError> {
        let request = messages::count(prefix);
        let range = self.request("/v3/kv/range", &request, messages::parse_range)?;
        Ok(usize::try_from(range.count).unwrap_or(usize::MAX))
    }

    /// Does all operations if all comparisons hold. The revision of what was put; `None`: one does not hold.
    pub(super) fn transact(
        &self,
        comparisons: Vec<Value>,
        operations: Vec<Value>,
    ) -> Result<Option<u64>, StoreError> {
        let request = messages::transaction(comparisons, operations);
        self.request("/v3/kv/txn", &request, messages::parse_transaction)
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        let range = self.request("/v3/kv/range", &messages::get(key), messages::parse_range)?;
        self.answered.fetch_max(range.revision, Ordering::SeqCst);
        Ok(range.pairs.into_iter().next().map(stored))
    }

    /// As [`Documents::scan`], for the keys that begin with `prefix`.
    fn scan(
        &self,
        prefix: &str,
        limit: usize,
        known: &dyn Fn(&DeviceId) -> Option<u64>,
        found: &mut dyn FnMut(DeviceId, Result<Lookup, StoreError>),
    ) -> Result<(), StoreError> {
        self.all(prefix, limit, &mut |id, pair| {
            let look = match known(&id) == Some(pair.revision) {
                true => Lookup::Unchanged,
                false => Lookup::Found(stored(pair)),
            };
            found(id, Ok(look));
        })
    }

    /// As [`Documents::compare_and_swap`], for the key `prefix` with `id`. A deletion also deletes `note`.
    fn compare_and_swap(
        &self,
        (prefix, id): (&str, &DeviceId),
        (what, limit): (&'static str, usize),
        expected: Option<&Stored>,
        text: Option<&str>,
        note: Option<&str>,
    ) -> Result<bool, StoreError> {
        if expected.is_none() && text.is_some() && self.count(prefix)? >= limit {
            return Err(StoreError::Full { what, limit });
        }
        let revision = expected.map_or(0, |stored| stored.revision);
        let key = format!("{prefix}{id}");
        let request = messages::compare_and_swap(&key, revision, text, note);
        self.request("/v3/kv/txn", &request, messages::parse_swap)
    }

    /// The state of the keys that begin with `prefix`.
    fn newest(&self, prefix: &str) -> Result<Newest, StoreError> {
        let request = messages::newest(prefix);
        let range = self.request("/v3/kv/range", &request, messages::parse_range)?;
        let newest = range.pairs.first().map_or(0, |pair| pair.revision);
        Ok(Newest {
            state: (newest, range.count),
            at: range.revision,
        })
    }

    pub(super) fn note_key(&self, id: &DeviceId) -> String {
        format!("{}{id}", self.notes())
    }

    /// etcd's current revision.
    pub(super) fn revision(&self) -> Result<u64, StoreError> {
        // The response to a request for any key has it.
        let request = messages::get(&self.configs());
        let range = self.request("/v3/kv/range", &request, messages::parse_range)?;
        Ok(range.revision)
    }

    /// The index of the member that answered last.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Watches all keys from this revision on, at one member. One watch for all of them: so what it reports has no gaps. The
    /// stream has a message per line, and ends after `time`. The error is a message for the user.
    pub(super) fn watch(
        &self,
        member: usize,
        from: u64,
        time: Duration,
    ) -> Result<impl Read + 'static, String> {
        let member = self.members.get(member).ok_or("there is no member")?;
        let url = format!("{}/v3/watch", member.base);
        let watch = messages::watch(&format!("{}/", self.prefix), from);
        let token = lock::lock(&self.token).clone();
        let token = match (&self.login, token) {
            (None, _) => None,
            (Some(_), Some(token)) => Some(token),
            (Some(login), None) => Some(Cluster::log_in(member, login)?),
        };
        let login = token
            .as_ref()
            .map(|token| ("Authorization", token.reveal()));
        let headers: Vec<_> = [JSON].into_iter().chain(login).collect();
        let body = watch.to_string();
        let stream = member
            .client
            .post_for_stream(&url, &headers, body.as_bytes(), time);
        stream.map_err(|e| e.to_string())
    }

    /// Whether an event is about a group.
    pub(super) fn is_of_group(&self, event: &messages::Event) -> bool {
        event.pair.key.starts_with(self.groups().as_bytes())
    }

    /// The change that an event reports; `None`: the key is a group's, or another program's.
    pub(super) fn change(&self, event: messages::Event) -> Option<Change> {
        let messages::Event { pair, deleted } = event;
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

    /// Sends a request to the current member, and to the next ones if that fails.
    pub(super) fn request<T>(
        &self,
        path: &str,
        request: &Value,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, StoreError> {
        let body = request.to_string();
        let first = self.current();
        let mut why = String::new();
        for offset in 0..self.members.len() {
            let index = (first + offset) % self.members.len();
            let Some(member) = self.members.get(index) else {
                break;
            };
            let url = format!("{}{path}", member.base);
            match self.request_from(member, &url, body.as_bytes()) {
                Ok(answer) if answer.status == 200 && answer.whole => {
                    self.current.store(index, Ordering::Relaxed);
                    return read(&answer.body).map_err(|e| {
                        StoreError::Unavailable(format!("{url}: not an answer of etcd: {e}"))
                    });
                }
                Ok(answer) => {
                    let message = messages::parse_error(&answer.body);
                    why = format!("{url}: status {}: {message}", answer.status);
                }
                Err(error) => why = error,
            }
        }
        Err(StoreError::Unavailable(format!(
            "the store {} does not answer: {why}",
            self.location
        )))
    }

    /// Sends a request to one member, with a token if there is a login.
    fn request_from(&self, member: &Member, url: &str, body: &[u8]) -> Result<Answer, String> {
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
        let token = lock::lock(&self.token).clone();
        if let Some(token) = token {
            let answer = post(Some(token.reveal()))?;
            // 401: the token has expired. After a change of users etcd may also answer 400.
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
        let request = messages::authenticate(&login.username, login.password.get()?.reveal());
        let answer = member
            .client
            .post(&url, &[JSON], request.to_string().as_bytes());
        let answer = answer.map_err(|e| e.to_string())?;
        match answer.status {
            200 => messages::parse_token(&answer.body)
                .map_err(|e| format!("{url}: not an answer of etcd: {e}")),
            status => {
                let message = messages::parse_error(&answer.body);
                Err(format!(
                    "{url}: {}: status {status}: {message}",
                    login.username
                ))
            }
        }
    }

    /// Passes all keys that begin with `prefix` to `found`, by the name that follows. Ends soon after `limit`.
    pub(super) fn all(
        &self,
        prefix: &str,
        limit: usize,
        found: &mut dyn FnMut(DeviceId, messages::KeyValue),
    ) -> Result<(), StoreError> {
        let mut count = 0;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let request = messages::range(prefix, after.as_deref(), PAGE_SIZE);
            let page = self.request("/v3/kv/range", &request, messages::parse_range)?;
            after = page.pairs.last().map(|pair| pair.key.clone());
            for pair in page.pairs {
                let id = std::str::from_utf8(&pair.key).ok();
                let id = id.and_then(|key| DeviceId::parse(key.strip_prefix(prefix)?).ok());
                // Other programs' keys are skipped.
                if let Some(id) = id {
                    count += 1;
                    found(id, pair);
                }
            }
            if !page.more || after.is_none() || count > limit {
                return Ok(());
            }
        }
    }
}

impl Documents for Keys {
    fn get(&self, id: &DeviceId) -> Result<Option<Stored>, StoreError> {
        self.cluster.get(&format!("{}{id}", self.prefix))
    }

    fn changes(&self) -> Result<Changes, StoreError> {
        match &self.news {
            News::Watch(watch) => watch.changes(),
            News::Newest(newest, _) => {
                let now = self.cluster.newest(&self.prefix)?;
                let known = lock::lock(newest).replace(now);
                Ok(match known.is_some_and(|known| known.state == now.state) {
                    true => Changes::Listed(Vec::new()),
                    false => Changes::Unknown,
                })
            }
        }
    }

    fn is_unchanged(&self) -> bool {
        let News::Newest(newest, watch) = &self.news else {
            return false;
        };
        let known = *lock::lock(newest);
        let answered = self.cluster.answered.load(Ordering::SeqCst);
        known.is_some_and(|known| watch.has_seen_no_group(known.at, answered))
    }

    fn lookup(&self, id: &DeviceId, _known: Option<u64>) -> Result<Lookup, StoreError> {
        Ok(self.get(id)?.map_or(Lookup::Missing, Lookup::Found))
    }

    fn scan(
        &self,
        known: &dyn Fn(&DeviceId) -> Option<u64>,
        found: &mut dyn FnMut(DeviceId, Result<Lookup, StoreError>),
    ) -> Result<(), StoreError> {
        self.cluster.scan(&self.prefix, self.limit, known, found)
    }

    fn has_unique_revisions(&self) -> bool {
        true
    }

    fn compare_and_swap(
        &self,
        id: &DeviceId,
        expected: Option<&Stored>,
        text: Option<&str>,
    ) -> Result<bool, StoreError> {
        let note = self.has_notes.then(|| self.cluster.note_key(id));
        self.cluster.compare_and_swap(
            (&self.prefix, id),
            (self.what, self.limit),
            expected,
            text,
            note.as_deref(),
        )
    }
}

impl Store for Etcd {
    fn devices(&self) -> &dyn Documents {
        &self.devices
    }

    fn groups(&self) -> &dyn Documents {
        &self.groups
    }

    fn commit(&self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        self.transactions.commit(self, transaction)
    }

    fn record_heads(&self) -> Result<RecordHeads, StoreError> {
        self.transactions.heads()
    }

    fn record(&self, id: TransactionId) -> Result<Option<Transaction>, StoreError> {
        self.transactions.record(id)
    }

    fn remove_record(&self, id: TransactionId) -> Result<bool, StoreError> {
        self.transactions.remove_record(id)
    }

    fn dropped_records(&self) -> u64 {
        self.transactions.dropped()
    }

    fn recover(&self) -> Result<Option<Duration>, StoreError> {
        self.transactions.recover(self)
    }

    fn max_note_age(&self) -> Duration {
        MAX_NOTE_AGE
    }

    fn put_note(&self, id: &DeviceId, note: &str) -> Result<(), StoreError> {
        let request = messages::put(&self.cluster.note_key(id), note);
        self.cluster.request("/v3/kv/put", &request, |_| Ok(()))
    }

    fn get_note(&self, id: &DeviceId) -> Result<Option<String>, StoreError> {
        let request = messages::get(&self.cluster.note_key(id));
        let range = self
            .cluster
            .request("/v3/kv/range", &request, messages::parse_range)?;
        let pair = range.pairs.into_iter().next();
        Ok(pair.and_then(|pair| String::from_utf8(pair.value).ok()))
    }

    fn list_notes(&self) -> Result<Vec<(DeviceId, String)>, StoreError> {
        let mut all = Vec::new();
        self.cluster
            .all(&self.cluster.notes(), MAX_DEVICES, &mut |id, pair| {
                all.extend(String::from_utf8(pair.value).ok().map(|note| (id, note)));
            })?;
        Ok(all)
    }

    fn describe(&self) -> String {
        self.cluster.location.clone()
    }
}

fn stored(pair: messages::KeyValue) -> Stored {
    Stored {
        text: pair.value,
        revision: pair.revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_parsed_or_refused() {
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
    fn unreachable_etcd_is_unavailable() {
        // Port 1 is never assigned by chance.
        let place = "127.0.0.1:1";
        let place_twice = format!("{place},{place}/x");
        let etcd = Etcd::new("etcd", &place_twice, Settings::default()).unwrap();
        let id = DeviceId::parse("edge-01").unwrap();
        match etcd.devices().get(&id) {
            Err(StoreError::Unavailable(why)) => {
                assert!(why.contains(place) && why.contains("etcd://"), "{why}")
            }
            other => panic!("{other:?}"),
        }
    }
}
