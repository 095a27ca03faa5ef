//! The pages for people: a board's own, and the config-server's of its fleet. Plain files, compiled in; what they show
//! they ask the JSON routes for.
//!
//! What a board says (names, labels, errors) is text to them, never HTML; and the browser is told to run, load and ask
//! nothing but what is from here (Content Security Policy, level 3), so that a mistake in that would do no harm.

use super::Response;

/// Which page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The exporter's: what this board draws, and its settings.
    Board,
    /// The config-server's: all boards.
    Fleet,
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
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
    ("/page/shared.js", SCRIPT, include_str!("shared.js")),
    ("/page/fleet.js", SCRIPT, include_str!("fleet.js")),
];

/// The file of a page at this path: 200 with a strict Content-Security-Policy. `None`: there is none.
pub fn file(page: Page, path: &str) -> Option<Response> {
    let files = match page {
        Page::Board => BOARD,
        Page::Fleet => FLEET,
    };
    let (_, kind, content) = files.iter().find(|(at, _, _)| *at == path)?;
    let response = Response::new(200, kind, *content)
        .with_header("Content-Security-Policy", POLICY)
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Referrer-Policy", "no-referrer")
        // Another version of the program has another page.
        .with_header("Cache-Control", "no-cache");
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_BYTES: usize = 40_000;

    #[test]
    fn pages_are_small() {
        for files in [BOARD, FLEET] {
            let bytes: usize = files.iter().map(|(_, _, content)| content.len()).sum();
            assert!(bytes < MOST_BYTES, "{bytes}");
        }
    }

    #[test]
    fn browsers_are_told_to_take_nothing_from_elsewhere() {
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
    fn files_refer_to_files_that_there_are_and_to_nothing_outside() {
        for (page, files) in [(Page::Board, BOARD), (Page::Fleet, FLEET)] {
            for (path, _, content) in files {
                // An SVG's name space is a name and no address.
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
    fn no_script_makes_html_of_text() {
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
