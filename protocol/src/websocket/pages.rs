//! The pages that web clients get: a set of bodies by path, and the responses (RFC 9110, RFC 9111).

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};

use super::http::{PageRequest, response_head};

const NOT_FOUND: &[u8] =
    b"<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
    content=\"width=device-width, initial-scale=1\">\n<title>Not found</title>\n<h1>Not found</h1>\n\
    <p>There is no such page on this server. <a href=\"/\">Server information</a>\n</html>\n";
const HTML: &str = "text/html; charset=utf-8";
/// Nothing may be loaded or run that the page does not name itself.
const NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    body: Arc<[u8]>,
    content_type: String,
    /// Empty: the page decides by itself.
    content_security_policy: String,
    /// For how long it need not be asked for again. 0: it is asked for each time whether it has changed.
    cache_secs: u32,
    etag: String,
}

impl Page {
    /// `content_type` and `content_security_policy` are header values; the latter may be empty.
    pub fn new(body: Vec<u8>, content_type: &str, content_security_policy: &str, cache_secs: u32) -> Self {
        let hash = Sha256::digest(&body);
        let mut etag = String::from("\"");
        for byte in hash.iter().take(12) {
            let _ = write!(etag, "{byte:02x}");
        }
        etag.push('"');
        Self {
            body: body.into(),
            content_type: content_type.to_owned(),
            content_security_policy: content_security_policy.to_owned(),
            cache_secs,
            etag,
        }
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// All pages of a router. Clones are the same pages: what [`replace`](Self::replace) puts there is served by whoever has a
/// clone.
#[derive(Clone, Debug, Default)]
pub struct Pages(Arc<RwLock<Arc<HashMap<String, Page>>>>);

/// A response: the body is not copied for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub head: Vec<u8>,
    /// Empty to HEAD.
    pub body: Arc<[u8]>,
}

impl Pages {
    /// By path, which begins with `/` and does not end with it.
    pub fn new(by_path: HashMap<String, Page>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(by_path))))
    }

    pub fn replace(&self, by_path: HashMap<String, Page>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(by_path);
    }

    /// The response to a request; paths with and without `/` at the end are the same. `now_secs` is Unix time.
    pub fn answer(&self, request: &PageRequest, now_secs: u64) -> Response {
        let pages = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let path = request.path.trim_end_matches('/');
        match pages.get(if path.is_empty() { "/" } else { path }) {
            Some(page) => page.response(request, now_secs),
            None => not_found(request, now_secs),
        }
    }
}

impl Page {
    fn response(&self, request: &PageRequest, now_secs: u64) -> Response {
        let cache = match self.cache_secs {
            0 => "no-cache".to_owned(),
            secs => format!("public, max-age={secs}"),
        };
        let mut fields = format!("etag: {}\r\ncache-control: {cache}\r\nconnection: close\r\n", self.etag);
        let mut versions = request.has_versions.split(',').map(str::trim);
        if versions.any(|version| version == "*" || version.trim_start_matches("W/") == self.etag) {
            let head = response_head("304 Not Modified", &fields, None, now_secs);
            return Response { head, body: Arc::default() };
        }
        let _ = write!(fields, "content-type: {}\r\n", self.content_type);
        if !self.content_security_policy.is_empty() {
            let _ = write!(fields, "content-security-policy: {}\r\n", self.content_security_policy);
        }
        Response {
            head: response_head("200 OK", &fields, Some(self.body.len()), now_secs),
            body: if request.with_body { Arc::clone(&self.body) } else { Arc::default() },
        }
    }
}

fn not_found(request: &PageRequest, now_secs: u64) -> Response {
    let fields = format!(
        "content-type: {HTML}\r\ncontent-security-policy: {NOTHING}\r\ncache-control: no-store\r\nconnection: close\r\n"
    );
    Response {
        head: response_head("404 Not Found", &fields, Some(NOT_FOUND.len()), now_secs),
        body: if request.with_body { NOT_FOUND.into() } else { Arc::default() },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pages() -> Pages {
        let page = |body: &str, secs| Page::new(body.into(), HTML, NOTHING, secs);
        Pages::new([("/".to_owned(), page("front", 0)), ("/a".to_owned(), page("link", 60))].into())
    }

    fn request(path: &str) -> PageRequest {
        PageRequest { path: path.to_owned(), with_body: true, has_versions: String::new() }
    }

    /// Status and fields of a head, and what the library thinks of it.
    fn read(response: &Response) -> (u16, HashMap<String, String>) {
        let mut headers = [httparse::EMPTY_HEADER; 20];
        let mut parsed = httparse::Response::new(&mut headers);
        assert_eq!(parsed.parse(&response.head).unwrap().unwrap(), response.head.len());
        let fields = parsed.headers.iter();
        let fields =
            fields.map(|field| (field.name.to_owned(), String::from_utf8(field.value.to_vec()).unwrap()));
        (parsed.code.unwrap(), fields.collect())
    }

    #[test]
    fn pages_are_found_with_and_without_a_slash_at_the_end() {
        for (path, body) in [("/", "front"), ("//", "front"), ("/a", "link"), ("/a/", "link")] {
            let response = pages().answer(&request(path), 784_111_777);
            let (status, fields) = read(&response);
            assert_eq!((status, &*response.body), (200, body.as_bytes()), "{path}");
            assert_eq!(fields["content-length"], body.len().to_string());
            assert_eq!((fields["content-type"].as_str(), fields["connection"].as_str()), (HTML, "close"));
            assert_eq!(fields["content-security-policy"], NOTHING);
            assert_eq!(fields["x-content-type-options"], "nosniff");
            assert_eq!(fields["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
        }
        let cache = |path| read(&pages().answer(&request(path), 0)).1["cache-control"].clone();
        assert_eq!((cache("/"), cache("/a")), ("no-cache".to_owned(), "public, max-age=60".to_owned()));
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in ["/b", "/a/b", "/../a", "/A", "/index.html"] {
            let response = pages().answer(&request(path), 0);
            assert_eq!((read(&response).0, &*response.body), (404, NOT_FOUND), "{path}");
        }
    }

    #[test]
    fn the_length_is_told_to_head_too() {
        let head = |path| PageRequest { with_body: false, ..request(path) };
        for (path, status, length) in [("/", 200, 5), ("/b", 404, NOT_FOUND.len())] {
            let response = pages().answer(&head(path), 0);
            let (found, fields) = read(&response);
            assert_eq!((found, response.body.len()), (status, 0));
            assert_eq!(fields["content-length"], length.to_string());
        }
    }

    #[test]
    fn who_has_a_page_does_not_get_it_again() {
        let pages = pages();
        let etag = read(&pages.answer(&request("/"), 0)).1["etag"].clone();
        for (versions, status) in [
            (etag.clone(), 304),
            (format!("\"x\", W/{etag}"), 304),
            ("*".to_owned(), 304),
            ("\"x\"".to_owned(), 200),
            (etag.trim_matches('"').to_owned(), 200),
        ] {
            let response = pages.answer(&PageRequest { has_versions: versions.clone(), ..request("/") }, 0);
            let (found, fields) = read(&response);
            assert_eq!((found, response.body.is_empty()), (status, status == 304), "{versions}");
            assert_eq!((&fields["etag"], fields.contains_key("content-length")), (&etag, status == 200));
        }
        // Another text is another version, for all who have these pages.
        let clone = pages.clone();
        clone.replace([("/".to_owned(), Page::new("new".into(), HTML, "", 0))].into());
        let response = pages.answer(&PageRequest { has_versions: etag, ..request("/") }, 0);
        assert_eq!((read(&response).0, &*response.body), (200, &b"new"[..]));
        assert!(!read(&response).1.contains_key("content-security-policy"));
    }
}
