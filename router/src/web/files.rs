//! The pages as files in the directory of `[WEB] static_path`: written at each start, for web servers in front of the router,
//! and read again, since operators put files of their own beside them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ringpost_protocol::websocket::pages::Page;

/// Browsers ask again after this time whether a file has changed.
const FILE_CACHE_SECS: u32 = 3_600;
/// What is not served: larger files, more files, deeper ones. The files are kept in memory.
const FILE_BYTES_MAX: u64 = 1 << 20;
const ALL_BYTES_MAX: u64 = 32 << 20;
const FILES_MAX: usize = 2_000;
const DEPTH_MAX: usize = 8;
/// Hidden directories are not served but this one, which is written without the dot, as by the reference.
const WELL_KNOWN: &str = ".well-known";
pub const HTML: &str = "text/html; charset=utf-8";

/// A page by the path of its file below the directory.
pub type Site = Vec<(String, Page)>;

/// The path under which a file is served: `a/index.html` as `/a`.
pub fn path_of(file: &str) -> String {
    let path = match file.strip_suffix("index.html") {
        Some(folder) if folder.is_empty() || folder.ends_with('/') => folder.trim_end_matches('/'),
        _ => file,
    };
    match path.strip_prefix("well-known/") {
        Some(rest) => format!("/{WELL_KNOWN}/{rest}"),
        None => format!("/{path}"),
    }
}

/// Writes the pages. Each file is the old or the new one at any time.
pub fn write(directory: &Path, site: &Site) -> io::Result<()> {
    for (name, page) in site {
        let path = directory.join(name);
        let new = path.with_extension("new");
        fs::create_dir_all(path.parent().unwrap_or(directory))?;
        let mut file = File::create(&new)?;
        file.write_all(page.body())?;
        drop(file);
        fs::rename(&new, &path)?;
    }
    Ok(())
}

/// What there is in a directory: paths below it, size and time of change. Equal lists mean that nothing changed.
pub type Listing = Vec<(String, u64, Option<SystemTime>)>;

/// Files that can be served, in the order of their names. What cannot be read is left out.
pub fn list(directory: &Path) -> Listing {
    let mut listing = Vec::new();
    if let Ok(root) = directory.canonicalize() {
        walk(&root, &root, "", DEPTH_MAX, &mut listing);
    }
    listing.sort();
    listing
}

fn walk(root: &Path, directory: &Path, prefix: &str, depth: usize, listing: &mut Listing) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if listing.len() >= FILES_MAX || name.starts_with('.') && name != WELL_KNOWN {
            continue;
        }
        // Links may lead to other files of the site, not out of it.
        let Ok(path) = entry.path().canonicalize() else { continue };
        let Ok(metadata) = path.metadata() else { continue };
        if !path.starts_with(root) {
            continue;
        }
        let name = format!("{prefix}{name}");
        if metadata.is_dir() && depth > 0 {
            walk(root, &path, &format!("{name}/"), depth - 1, listing);
        } else if metadata.is_file() && metadata.len() <= FILE_BYTES_MAX {
            listing.push((name, metadata.len(), metadata.modified().ok()));
        }
    }
}

/// All pages by path: the files of the directory, and pages that are not there as files. Files that are pages of ours keep
/// their policy; others decide for themselves.
pub fn read(directory: &Path, listing: &Listing, site: &Site) -> HashMap<String, Page> {
    let mut pages = in_memory(site);
    let mut bytes_left = ALL_BYTES_MAX;
    for (name, _, _) in listing {
        let Some(body) = read_file(&directory.join(name), bytes_left) else { continue };
        bytes_left -= u64::try_from(body.len()).unwrap_or(bytes_left).min(bytes_left);
        let ours = site.iter().find(|(ours, page)| ours == name && page.body() == body);
        if ours.is_none() {
            let cache_secs = if content_type(name) == HTML { 0 } else { FILE_CACHE_SECS };
            pages.insert(path_of(name), Page::new(body, content_type(name), "", cache_secs));
        }
    }
    pages
}

/// The pages of ours alone.
pub fn in_memory(site: &Site) -> HashMap<String, Page> {
    site.iter().map(|(name, page)| (path_of(name), page.clone())).collect()
}

fn read_file(path: &PathBuf, bytes_left: u64) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    // It may have grown since it was listed.
    File::open(path).ok()?.take(FILE_BYTES_MAX + 1).read_to_end(&mut body).ok()?;
    let length = u64::try_from(body.len()).ok()?;
    (length <= FILE_BYTES_MAX && length <= bytes_left).then_some(body)
}

pub fn content_type(name: &str) -> &'static str {
    if name.ends_with("apple-app-site-association") {
        return "application/json";
    }
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => HTML,
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "pdf" => "application/pdf",
        "xml" => "application/xml",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn site() -> Site {
        let page = |body: &str| Page::new(body.into(), "text/html; charset=utf-8", "default-src 'none'", 0);
        vec![
            ("index.html".to_owned(), page("front")),
            ("a/index.html".to_owned(), page("link")),
            ("well-known/assetlinks.json".to_owned(), page("[]")),
        ]
    }

    #[test]
    fn paths_are_those_of_the_web() {
        for (file, path) in [
            ("index.html", "/"),
            ("a/index.html", "/a"),
            ("a/b/index.html", "/a/b"),
            ("xindex.html", "/xindex.html"),
            ("robots.txt", "/robots.txt"),
            ("well-known/x", "/.well-known/x"),
            (".well-known/acme-challenge/y", "/.well-known/acme-challenge/y"),
        ] {
            assert_eq!(path_of(file), path);
        }
    }

    #[test]
    fn pages_are_written_and_read_with_what_is_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("www/deep");
        write(&directory, &site()).unwrap();
        write(&directory, &site()).unwrap();
        let listed = list(&directory);
        assert_eq!(listed.len(), 3, "{listed:?}");
        assert_eq!(read(&directory, &listed, &site()), in_memory(&site()));

        fs::write(directory.join("robots.txt"), "User-agent: *").unwrap();
        fs::write(directory.join("a/index.html"), "changed").unwrap();
        fs::write(directory.join(".hidden"), "no").unwrap();
        fs::create_dir_all(directory.join(".well-known/acme-challenge")).unwrap();
        fs::write(directory.join(".well-known/acme-challenge/token"), "proof").unwrap();
        fs::write(directory.join("large"), vec![0; 1 << 21]).unwrap();
        fs::write(folder.path().join("outside"), "no").unwrap();
        std::os::unix::fs::symlink(folder.path().join("outside"), directory.join("link")).unwrap();
        std::os::unix::fs::symlink(directory.join("robots.txt"), directory.join("alias.txt")).unwrap();
        let listed = list(&directory);
        let pages = read(&directory, &listed, &site());
        let mut paths: Vec<&str> = pages.keys().map(String::as_str).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "/",
                "/.well-known/acme-challenge/token",
                "/.well-known/assetlinks.json",
                "/a",
                "/alias.txt",
                "/robots.txt"
            ]
        );
        assert_eq!(pages["/a"].body(), b"changed");
        assert_ne!(list(&directory), list(folder.path()));
    }

    #[test]
    fn a_directory_that_is_not_there_has_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        assert!(list(&absent).is_empty());
        assert_eq!(read(&absent, &Vec::new(), &site()).len(), 3);
        fs::write(&absent, "a file").unwrap();
        write(&absent, &site()).unwrap_err();
    }
}
