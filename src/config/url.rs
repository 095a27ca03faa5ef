//! Validation of URLs, and their display without secrets.

use ureq::http::uri::Uri;
use ureq::Proxy;

/// Checks that a URL can be requested: http or https, with a host and without a login. The error completes a sentence.
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

/// Checks that this is the URL of a supported proxy. The error does not show the URL.
pub fn check_proxy(url: &str) -> Result<(), &'static str> {
    let proxy = Proxy::new(url).map_err(|_| "it is no URL of a proxy")?;
    match proxy.uri().scheme_str() {
        // The HTTP client panics for other kinds.
        Some("http" | "https") => Ok(()),
        _ => Err("it is no proxy for HTTP (there is no SOCKS here)"),
    }
}

/// Returns the URL without login and without query, which may contain a token.
pub fn url_without_secrets(url: &str) -> &str {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = url.get(..end).unwrap_or_default();
    match url.rfind('@') {
        Some(at) => url.get(at + 1..).unwrap_or_default(),
        None => url,
    }
}
