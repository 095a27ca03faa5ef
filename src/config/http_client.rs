//! Reads the settings of the HTTP client under Prometheus's names: `basic_auth`, `authorization`, `headers`, `tls_config` and
//! the keys for proxies. All sections with a `url` accept these keys.

use std::path::Path;

use super::diagnose::{Diagnostic, Origin};
use super::load;
use super::secret::Secret;
use super::section::{Problem, Section};
use super::tree::Node;
use super::values::{self, Outcome, Refusal};
use super::{
    check_proxy, check_url, read_text, text_of, Authorization, BasicAuth,
    ClientSettings as Settings, SecretSource,
};
use crate::sys::reason;

/// Headers that cannot be set under `headers`: those of the connection and the body, and those with keys of their own.
const RESERVED: [&str; 17] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "www-authenticate",
    "x-prometheus-remote-write-version",
];

/// Reads a file with only these keys, as Prometheus's tools accept (`--http.config.file`). Paths in the file are relative to
/// its directory. The error is a message for the user.
pub fn load_settings(path: &Path) -> Result<Settings, String> {
    let origin = Origin::File(path.to_owned());
    let bytes = load::read(path).map_err(|error| match error {
        load::Error::Read { source, .. } => {
            format!("cannot read {}: {}", path.display(), reason(&source))
        }
        other => other.to_string(),
    })?;
    let parse = || -> Result<Settings, Diagnostic> {
        let mut settings = Settings::default();
        read_text(text_of(&bytes)?, |top| read(top, &mut settings))?;
        Ok(settings)
    };
    let mut settings = parse().map_err(|error| error.with(&origin).to_string())?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let tls = &mut settings.tls;
    let mut files: Vec<_> = [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file]
        .into_iter()
        .flatten()
        .collect();
    let logins = [
        settings
            .basic_auth
            .as_mut()
            .map(|login| &mut login.password),
        settings
            .authorization
            .as_mut()
            .map(|login| &mut login.credentials),
    ];
    files.extend(logins.into_iter().flatten().filter_map(SecretSource::file));
    for file in files {
        *file = directory.join(&file);
    }
    Ok(settings)
}

/// Reads the keys of a section.
pub(crate) fn read(section: &mut Section<'_, '_>, settings: &mut Settings) -> Result<(), Problem> {
    settings.basic_auth = basic_auth(section)?;
    settings.authorization = authorization(section)?;
    if settings.basic_auth.is_some() && settings.authorization.is_some() {
        let message = "`basic_auth` and `authorization` are both there: one login is enough";
        return Err(section.refuse(Some("authorization"), message.into()));
    }
    section.set("headers", headers, &mut settings.headers)?;
    section.section("tls_config", |section| {
        let tls = &mut settings.tls;
        section.option("ca_file", values::path, &mut tls.ca_file)?;
        section.option("cert_file", values::path, &mut tls.cert_file)?;
        section.option("key_file", values::path, &mut tls.key_file)?;
        section.option("server_name", values::host, &mut tls.server_name)?;
        section.set(
            "insecure_skip_verify",
            values::flag,
            &mut tls.insecure_skip_verify,
        )?;
        for key in ["ca", "cert", "key"] {
            section.unsupported(key, "write it to a file, and name that")?;
        }
        for key in ["ca_ref", "cert_ref", "key_ref"] {
            section.unsupported(key, "there are files only")?;
        }
        for key in ["min_version", "max_version"] {
            section.unsupported(key, "TLS 1.2 and 1.3 are spoken, and nothing older")?;
        }
        if tls.cert_file.is_some() != tls.key_file.is_some() {
            let message = "`tls_config` needs both `cert_file` and `key_file`, or neither";
            return Err(section.refuse(None, message.into()));
        }
        Ok(())
    })?;
    section.option("proxy_url", proxy, &mut settings.proxy_url)?;
    section.set(
        "proxy_from_environment",
        values::flag,
        &mut settings.proxy_from_environment,
    )?;
    section.set(
        "follow_redirects",
        values::flag,
        &mut settings.follow_redirects,
    )?;
    section.unsupported("no_proxy", "leave out `proxy_url` for this one")?;
    section.unsupported("proxy_connect_header", "there is no way to send it")?;
    section.unsupported("http_headers", "write them below `headers`")?;
    section.unsupported("oauth2", "put a token's file below `authorization`")?;
    section.ignored("enable_http2", "HTTP/1.1 is spoken");
    Ok(())
}

fn basic_auth(section: &mut Section<'_, '_>) -> Result<Option<BasicAuth>, Problem> {
    let mut login = None;
    section.section("basic_auth", |section| {
        let mut username = None;
        section.option("username", values::label, &mut username)?;
        let password = secret_source(section, "password", "password_file")?;
        section.unsupported("username_file", "write the `username` here")?;
        for key in ["username_ref", "password_ref"] {
            section.unsupported(key, "there are files only")?;
        }
        login = match (username, password) {
            (None, SecretSource::None) => None,
            (None, _) => {
                let message = "`basic_auth` has a password, but no `username`";
                return Err(section.refuse(None, message.into()));
            }
            (Some(username), _) if username.contains(':') => {
                let message = "`basic_auth.username` has a colon, which HTTP has no way to say";
                return Err(section.refuse(Some("username"), message.into()));
            }
            (Some(username), password) => Some(BasicAuth { username, password }),
        };
        Ok(())
    })?;
    Ok(login)
}

fn authorization(section: &mut Section<'_, '_>) -> Result<Option<Authorization>, Problem> {
    let mut login = None;
    section.section("authorization", |section| {
        let mut kind = "Bearer".to_string();
        section.set("type", authorization_type, &mut kind)?;
        let credentials = secret_source(section, "credentials", "credentials_file")?;
        section.unsupported("credentials_ref", "there are files only")?;
        login = match credentials {
            SecretSource::None => None,
            credentials => Some(Authorization { kind, credentials }),
        };
        Ok(())
    })?;
    Ok(login)
}

fn authorization_type(node: &Node) -> Outcome<String> {
    let kind = values::text(node, "a word, such as Bearer")?;
    if kind.eq_ignore_ascii_case("basic") {
        let message = "is Basic: write a `basic_auth` instead";
        return Err(Refusal::new(message.into()));
    }
    match is_token(kind) {
        true => Ok(kind.to_string()),
        false => values::refuse(node, "a word, such as Bearer"),
    }
}

/// Reads a secret, or the path of its file.
fn secret_source(
    section: &mut Section<'_, '_>,
    here: &'static str,
    file: &'static str,
) -> Result<SecretSource, Problem> {
    let (mut secret, mut path) = (None, None);
    section.option(here, values::secret, &mut secret)?;
    section.option(file, values::path, &mut path)?;
    match (secret, path) {
        (Some(_), Some(_)) => {
            let message = format!("`{here}` and `{file}` are both there: remove one");
            Err(section.refuse(Some(file), message))
        }
        (Some(secret), None) => Ok(SecretSource::Inline(secret)),
        (None, Some(path)) => Ok(SecretSource::File(path)),
        (None, None) => Ok(SecretSource::None),
    }
}

/// Header names with values. A value may be a secret and is never shown.
fn headers(node: &Node) -> Outcome<Vec<(String, Secret)>> {
    let Node::Map(entries) = node else {
        return values::refuse(node, "names with values, `Name: value`, one a line");
    };
    if entries.len() > values::MAX_ITEMS {
        let message = format!("has more than {} names", values::MAX_ITEMS);
        return Err(Refusal::new(message));
    }
    let of_key = |name: &String, message: &str| Refusal {
        key: true,
        ..Refusal::new(format!("names {name:?}, {message}")).at(name)
    };
    let mut headers: Vec<(String, Secret)> = Vec::new();
    for (name, value) in entries {
        if !is_token(name) {
            return Err(of_key(name, "which is no header's name"));
        }
        if RESERVED.iter().any(|r| r.eq_ignore_ascii_case(name)) {
            return Err(of_key(name, "which is not to be set by hand"));
        }
        if headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
            return Err(of_key(
                name,
                "which is there already: remove one of the two",
            ));
        }
        let value = values::secret(value).map_err(|refusal| refusal.at(name))?;
        if !value.reveal().bytes().all(|b| (b' '..=b'~').contains(&b)) {
            let message = "has letters that a header cannot have".to_string();
            return Err(Refusal::new(message).at(name));
        }
        headers.push((name.clone(), value));
    }
    Ok(headers)
}

/// The URL of a proxy, which may contain a password.
fn proxy(node: &Node) -> Outcome<Secret> {
    let url = values::secret(node)?;
    let refused = |why| Refusal::new(format!("is refused: {why}"));
    check_proxy(url.reveal()).map_err(refused)?;
    Ok(url)
}

/// Whether the text is a token (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    let other = |b| b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || other(b))
}

/// A URL to send requests to. Errors do not show the URL, which may contain a token.
pub(crate) fn url(node: &Node) -> Outcome<String> {
    let Node::Text(text) = node else {
        return values::refuse(node, "a URL such as http://prometheus:9090/api/v1/write");
    };
    let refused = |why: &str| Refusal::new(format!("is refused: {why}"));
    if text.len() > 2048 {
        return Err(refused("it has more than 2048 bytes"));
    }
    let parsed = check_url(text).map_err(refused)?;
    if cfg!(not(feature = "tls")) && parsed.scheme_str() == Some("https") {
        return Err(refused(
            "this build has no TLS (build with the feature `tls`, or use http through a tunnel)",
        ));
    }
    Ok(text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::temp_dir::TempDir;

    #[test]
    fn client_settings_are_read_from_a_file() {
        let directory = TempDir::new();
        let path = directory.path().join("http.yml");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load_settings(&path)
        };
        assert_eq!(load(""), Ok(Settings::default()));
        let settings = load(
            "basic_auth: {username: edge, password_file: password}\ntls_config: {ca_file: /etc/ca.pem}\n",
        )
        .unwrap();
        let login = settings.basic_auth.unwrap();
        assert_eq!(
            login.password,
            SecretSource::File(directory.path().join("password"))
        );
        assert_eq!(settings.tls.ca_file.unwrap(), Path::new("/etc/ca.pem"));
        for (wrong, place, words) in [
            ("basic_auht: {}\n", ":1:1: ", "basic_auht"),
            ("\ntls_config: {ca: x}\n", ":2:", "write it to a file"),
            ("- x\n", "", "settings"),
            ("a: [\n", "", ""),
        ] {
            let error = load(wrong).unwrap_err();
            let start = format!("{}{place}", path.display());
            assert!(
                error.starts_with(&start) && error.contains(words),
                "{error}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        let gone = load_settings(&path).unwrap_err();
        assert!(
            gone.starts_with("cannot read /") && !gone.contains("config.yaml"),
            "{gone}"
        );
    }
}
