//! What is in force: the web configuration and the tokens, ready to be asked.

use std::path::{Path, PathBuf};
#[cfg(feature = "tls")]
use std::sync::Arc;

use super::admission::Shown;
use super::passwords::Users;
use super::tokens::Tokens;
use crate::config::{ClientAuth, ServerTls, Web};
#[cfg(feature = "tls")]
use crate::http::tls::Accepting;
use crate::sys::file;
use crate::sys::file_stamp::FileStamp;
use crate::sys::reason;

/// The largest file of tokens.
const MAX_TOKENS: u64 = 64 * 1024;

/// Who may come in, and how.
#[derive(Debug)]
pub(in crate::http) struct Policy {
    pub(super) users: Users,
    pub(super) tokens: Tokens,
    pub(in crate::http) headers: Vec<(&'static str, String)>,
    settings: Option<ServerTls>,
    #[cfg(feature = "tls")]
    pub(in crate::http) tls: Option<Accepting>,
}

/// A policy, or why there is none, and what that came from.
pub(super) struct Loaded {
    /// The error is for people.
    pub(super) policy: Result<Policy, String>,
    pub(super) warnings: Vec<String>,
    /// All files that were read, as they were before.
    pub(super) marks: Vec<(PathBuf, FileStamp)>,
}

impl Policy {
    /// Everybody may, by plain HTTP.
    pub(in crate::http) fn open() -> Policy {
        Policy {
            users: Users::new(Default::default()),
            tokens: Tokens::default(),
            headers: Vec::new(),
            settings: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Reads a web configuration and a file of tokens, if there are any.
    pub(super) fn load(web: Option<&Path>, tokens: Option<&Path>) -> Loaded {
        let mut loaded = Loaded {
            policy: Ok(Policy::open()),
            warnings: Vec::new(),
            marks: Vec::new(),
        };
        let read = loaded.read(web, tokens);
        loaded.policy = read;
        loaded
    }

    /// Whether a certificate that a client shows says who it is.
    pub(in crate::http) fn verifies_clients(&self) -> bool {
        self.client_auth().verifies()
    }

    fn client_auth(&self) -> ClientAuth {
        self.settings
            .as_ref()
            .map_or(ClientAuth::No, |tls| tls.client_auth)
    }

    /// Whether connections are accepted as `other` has it.
    pub(in crate::http) fn connects_as(&self, other: &Policy) -> bool {
        #[cfg(feature = "tls")]
        return match (&self.tls, &other.tls) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(&ours.config, &theirs.config),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        #[cfg(not(feature = "tls"))]
        return self.settings == other.settings;
    }

    /// Whether who was let in by this under `old` would be now.
    pub(super) fn still_knows(&self, shown: &Shown, old: &Policy) -> bool {
        match shown {
            Shown::Token(token) if self.tokens.has_fingerprint(token) => true,
            _ if self.users.is_empty() => true,
            Shown::User(name) => self.users.has_as(name, &old.users),
            _ => false,
        }
    }

    /// What would be open that `old` keeps closed. While a file is being written, its end is missing; what stands there
    /// must not be out of force for that moment.
    pub(super) fn opens(&self, old: &Policy) -> Option<&'static str> {
        let names = |policy: &Policy| {
            policy
                .settings
                .as_ref()
                .is_some_and(|tls| !tls.client_allowed_sans.is_empty())
        };
        let requires = |policy: &Policy| policy.client_auth() == ClientAuth::RequireAndVerify;
        if old.settings.is_some() && self.settings.is_none() {
            Some("without `tls_server_config` all would be sent in the clear")
        } else if requires(old) && !requires(self) {
            Some("clients without a certificate would be let in")
        } else if names(old) && !names(self) {
            Some("without `client_allowed_sans` other clients would be let in")
        } else if !old.users.is_empty() && self.users.is_empty() {
            Some("without `basic_auth_users` everybody would be let in")
        } else {
            None
        }
    }
}

impl Loaded {
    fn mark(&mut self, path: &Path) {
        self.marks.push((path.to_owned(), FileStamp::of(path)));
    }

    fn read(&mut self, web: Option<&Path>, tokens: Option<&Path>) -> Result<Policy, String> {
        let mut policy = Policy::open();
        if let Some(path) = tokens {
            self.mark(path);
            policy.tokens = read_tokens(path)?;
        }
        let Some(path) = web else {
            return Ok(policy);
        };
        self.mark(path);
        let (web, warnings) = Web::load(path)?;
        self.warnings.extend(warnings);
        for file in web.files() {
            self.mark(file);
        }
        if let Some(tls) = &web.tls {
            let failed = |why| format!("{}: {why}", path.display());
            #[cfg(feature = "tls")]
            {
                policy.tls = Some(crate::http::tls::configure(tls).map_err(failed)?);
            }
            #[cfg(not(feature = "tls"))]
            {
                let _ = tls;
                let why = "it asks for TLS, and this build has none: build with the feature `tls`, or let a proxy speak it";
                return Err(failed(why.to_string()));
            }
        }
        policy.users = Users::new(web.users);
        policy.headers = web.headers;
        policy.settings = web.tls;
        Ok(policy)
    }
}

fn read_tokens(path: &Path) -> Result<Tokens, String> {
    let bytes = file::read(path, MAX_TOKENS).map_err(|error| {
        format!(
            "cannot read the tokens {}: {}",
            path.display(),
            reason(&error)
        )
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_string());
    text.and_then(Tokens::parse)
        .map_err(|why| format!("{}: {why}", path.display()))
}
