//! URLs: which can be requested, and how one is shown without its secrets.

use ureq::http::uri::Uri;
use ureq::Proxy;

/// Whether a URL is one that can be asked: http or https, a host, no login in it. The error says what it is not.
pub fn check_url(url: &str) -> Result<Uri, &'static str> {
    let (scheme, _) = url.split_once("://").unwrap_or_default();
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err("it does not begin with http:// or https://");
    }
    let parsed: Uri = url.parse().map_err(|_| "it is no URL")?;
    let authority = parsed
        .authority()
        .map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("it holds a user name or a password, which belong below `basic_auth`");
    }
    if parsed.host().is_none_or(str::is_empty) {
        return Err("it has no host");
    }
    Ok(parsed)
}

/// Whether this is the URL of a proxy that can be gone through. The error says what it is not, and nothing of what it is.
pub fn check_proxy(url: &str) -> Result<(), &'static str> {
    let proxy = Proxy::new(url).map_err(|_| "it is no URL of a proxy")?;
    match proxy.uri().scheme_str() {
        // Of any other kind, the HTTP client ends the process.
        Some("http" | "https") => Ok(()),
        _ => Err("it is no proxy for HTTP (there is no SOCKS here)"),
    }
}

/// A URL as it may be shown: without a login, and without a query, where people put tokens.
pub fn shown(url: &str) -> &str {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = url.get(..end).unwrap_or_default();
    match url.rfind('@') {
        Some(at) => url.get(at + 1..).unwrap_or_default(),
        None => url,
    }
}
