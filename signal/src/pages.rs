//! The pages inside the binary: which files there are, of what type, under which address.

use rust_embed::{EmbeddedFile, RustEmbed};

/// Everything under `web/` that a browser loads; tests and tool settings stay outside.
#[derive(RustEmbed)]
#[folder = "../web"]
#[include = "*.html"]
#[include = "*.css"]
#[include = "*.js"]
#[include = "*.svg"]
#[include = "*.png"]
#[include = "*.woff2"]
#[exclude = "tests/*"]
#[exclude = "node_modules/*"]
struct Web;

/// A file as it is sent.
pub struct Page {
    /// Its bytes.
    pub file: EmbeddedFile,
    /// Its media type.
    pub content_type: &'static str,
}

impl Page {
    /// The file of this name below `web/`; only names that were embedded exist, so no path leads elsewhere.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Some(Self {
            file: Web::get(name)?,
            content_type: content_type(name)?,
        })
    }

    /// The entity tag: its content's hash.
    #[must_use]
    pub fn etag(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(34);
        text.push('"');
        for byte in &self.file.metadata.sha256_hash()[..16] {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
        }
        text.push('"');
        text
    }
}

/// The types that are served; a file of any other type is not.
fn content_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_types_have_a_content_type() {
        assert_eq!(content_type("js/a.b.js"), Some("text/javascript; charset=utf-8"));
        for name in ["package.json", "a", "a.ts", ".html.swp"] {
            assert_eq!(content_type(name), None, "{name}");
        }
    }

    #[test]
    fn nothing_outside_the_pages_is_found() {
        for name in [
            "../Cargo.toml",
            "/etc/passwd",
            "js/../index.html",
            "package.json",
            "",
            ".",
            "index.html/",
        ] {
            assert!(Page::find(name).is_none(), "{name}");
        }
    }
}
