//! Redirects (RFC 9110, 15.4): the URL that a redirect points to, and whether that is on the same server.

use ureq::http::uri::Uri;

use super::check_url;

/// Whether a GET that got this status may follow the response's `Location`.
pub(super) fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Resolves the `Location` of a response from `base` (RFC 3986, 5.2). The error says why the result is no URL to send
/// requests to.
pub(super) fn target(base: &Uri, location: &str) -> Result<Uri, &'static str> {
    let location = location.split('#').next().unwrap_or_default().trim();
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map_or("", |a| a.as_str());
    let path_end = location.find(['/', '?']).unwrap_or(location.len());
    if location.get(..path_end).is_some_and(|s| s.contains(':')) {
        return check_url(location);
    }
    if location.starts_with("//") {
        return check_url(&format!("{scheme}:{location}"));
    }
    let (path, query) = match location.find('?') {
        Some(at) => location.split_at(at),
        None => (location, ""),
    };
    let base_path = base.path();
    let path_and_query = match path {
        "" if query.is_empty() => base.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        "" => format!("{base_path}{query}"),
        path if path.starts_with('/') => remove_dot_segments(path) + query,
        path => {
            let folder = base_path.rfind('/').and_then(|end| base_path.get(..=end));
            remove_dot_segments(&format!("{}{path}", folder.unwrap_or("/"))) + query
        }
    };
    check_url(&format!("{scheme}://{authority}{path_and_query}"))
}

/// RFC 3986, 5.2.4.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Whether both have the same scheme, host and port (RFC 6454, 4).
pub(super) fn same_origin(a: &Uri, b: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        let default = if scheme == "https" { 443 } else { 80 };
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        (uri.port_u16().unwrap_or(default), host, scheme)
    };
    origin(a) == origin(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn locations_are_resolved_against_the_base() {
        let base = uri("http://host:9090/a/b?c=d");
        for (location, wanted) in [
            ("http://other/x?y=z#f", "http://other/x?y=z"),
            ("HTTPS://other:1/", "https://other:1/"),
            ("//other/x", "http://other/x"),
            ("/x", "http://host:9090/x"),
            ("/x?u=http://evil/", "http://host:9090/x?u=http://evil/"),
            ("/x/../../y/./z", "http://host:9090/y/z"),
            ("x", "http://host:9090/a/x"),
            ("x/y?z", "http://host:9090/a/x/y?z"),
            ("../x", "http://host:9090/x"),
            ("..", "http://host:9090/"),
            ("./", "http://host:9090/a/"),
            ("?e=f", "http://host:9090/a/b?e=f"),
            ("", "http://host:9090/a/b?c=d"),
            ("#f", "http://host:9090/a/b?c=d"),
        ] {
            assert_eq!(target(&base, location), Ok(uri(wanted)), "{location}");
        }
        for location in [
            "ftp://host/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "http://me:secret@host/",
            "//me@host/",
            "http://",
            "http://a b/",
            "//",
        ] {
            assert!(target(&base, location).is_err(), "{location}");
        }
    }

    #[test]
    fn origin_is_scheme_host_and_port() {
        let base = uri("http://Host/a");
        for same in ["http://host/b", "HTTP://HOST:80/"] {
            assert!(same_origin(&base, &uri(same)), "{same}");
        }
        for other in [
            "https://host/a",
            "http://host:81/a",
            "http://host.example/a",
            "http://sub.host/a",
            "http://host./a",
            "http://127.0.0.1/a",
        ] {
            assert!(!same_origin(&base, &uri(other)), "{other}");
        }
        assert!(same_origin(&uri("https://h/"), &uri("https://h:443/")));
    }
}
