//! The web pages: the status page of a board, and the fleet page of the config-server. They are static files, compiled in,
//! and get their data from the JSON routes.
//!
//! The scripts insert names, labels and errors as text, never as HTML. The Content Security Policy (level 3) also forbids
//! the browser to run or load anything that is not from this server, so that a mistake in a script would do no harm.

use super::Response;

/// Which page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The exporter's: power and settings of this board.
    Board,
    /// The config-server's: all boards.
    Fleet,
}

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type and content of each file of a page.
const BOARD: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("board.html")),
    ("/page/style.css", CSS, include_str!("style.css")),
    ("/page/shared.js", SCRIPT, include_str!("shared.js")),
    ("/page/chart.js", SCRIPT, include_str!("chart.js")),
    ("/page/board.js", SCRIPT, include_str!("board.js")),
];
const FLEET: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("fleet.html")),
    ("/page/style.css", CSS, include_str!("style.css")),
    ("/page/fleet.css", CSS, include_str!("fleet.css")),
    ("/page/shared.js", SCRIPT, include_str!("shared.js")),
    ("/page/fleet.js", SCRIPT, include_str!("fleet.js")),
];

/// The file of a page at this path, as a 200 with a strict Content-Security-Policy. `None`: the page has no such file.
pub fn file(page: Page, path: &str) -> Option<Response> {
    let files = match page {
        Page::Board => BOARD,
        Page::Fleet => FLEET,
    };
    let (_, kind, content) = files.iter().find(|(at, _, _)| *at == path)?;
    let response = Response::new(200, kind, *content)
        .with_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Referrer-Policy", "no-referrer")
        // A new version of the program has other files at the same paths.
        .with_header("Cache-Control", "no-cache");
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BYTES: usize = 40_000;

    #[test]
    fn pages_are_small() {
        for files in [BOARD, FLEET] {
            let bytes: usize = files.iter().map(|(_, _, content)| content.len()).sum();
            assert!(bytes < MAX_BYTES, "{bytes}");
        }
    }

    #[test]
    fn pages_have_a_strict_content_security_policy() {
        for (page, files) in [(Page::Board, BOARD), (Page::Fleet, FLEET)] {
            for (path, kind, content) in files {
                let file = file(page, path).unwrap();
                assert_eq!(file.status(), 200);
                assert_eq!(file.body(), content.as_bytes());
                assert_eq!(file.header("Content-Type"), Some(*kind));
                assert_eq!(file.header("X-Content-Type-Options"), Some("nosniff"));
                let policy = file.header("Content-Security-Policy").unwrap();
                assert!(policy.starts_with("default-src 'none'; script-src 'self'; "));
                assert!(!policy.contains("unsafe"), "{policy}");
            }
            assert!(file(page, "/page/").is_none());
            assert!(file(page, "/page/../Cargo.toml").is_none());
        }
        assert!(file(Page::Board, "/page/fleet.js").is_none());
    }

    #[test]
    fn files_refer_only_to_files_of_their_page() {
        for (page, files) in [(Page::Board, BOARD), (Page::Fleet, FLEET)] {
            for (path, _, content) in files {
                // The SVG name space is no address that is loaded.
                let content = content.replace("http://www.w3.org/2000/svg", "");
                assert!(
                    !content.contains("://") || *path == "/page/fleet.js",
                    "{path}"
                );
                let quoted = content.split(['"', '\'']);
                for to in quoted.filter(|text| text.starts_with("/page/") || text.starts_with("./"))
                {
                    let to = to.replacen("./", "/page/", 1);
                    assert!(file(page, &to).is_some(), "{path}: {to}");
                }
            }
        }
    }

    #[test]
    fn scripts_do_not_turn_text_into_html() {
        for (path, _, content) in BOARD.iter().chain(FLEET) {
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!content.contains(way), "{path}: {way}");
            }
            assert!(
                !content.contains(" style=") && !content.contains(" onclick="),
                "{path}"
            );
        }
    }
}
