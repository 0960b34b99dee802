//! The house rules of the whole workspace, held as a test: layering, file lengths, banned calls, unsafe code,
//! white space, and documents that can be found. A failure reads `file:line: rule`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod layers;
mod rules;
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rules::Finding;
use source::Source;

/// Folders that hold no text of ours.
const SKIPPED_FOLDERS: &[&str] = &["target", ".git", "tmp"];
/// What counts as text, by the end of the name; files in `scripts/` and `.ci/` have no ending.
const TEXT_ENDINGS: &[&str] = &["rs", "toml", "md", "sh", "ini", "service", "yml", "txt"];

pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_str()) {
            walk(&entry.path(), files);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
}

/// Every text file as (path from the root, content), in order.
fn text_files() -> Vec<(String, String)> {
    let root = workspace_root();
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let files: Vec<(String, String)> = paths
        .iter()
        .map(|path| (path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), path))
        .filter(|(name, path)| {
            let ending = path.extension().map_or("", |e| e.to_str().unwrap_or(""));
            TEXT_ENDINGS.contains(&ending) || name.starts_with("scripts/") || name.starts_with(".ci/")
        })
        .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
        .collect();
    assert!(files.iter().any(|(name, _)| name == "router/src/lib.rs"), "the walk missed the sources");
    files
}

fn is_rust(name: &str) -> bool {
    has_ending(name, "rs")
}

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == ending)
}

/// Code that ships: in a `src` folder, and not a module that its parent declares under `#[cfg(test)]`.
fn is_production(name: &str, test_modules: &BTreeSet<String>) -> bool {
    let in_src = name.split('/').any(|part| part == "src");
    in_src
        && !test_modules
            .iter()
            .any(|module| name == format!("{module}.rs") || name.starts_with(&format!("{module}/")))
}

/// Paths, without ending, of the modules that are test code as a whole.
fn test_module_paths(files: &[(String, String)]) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (name, text) in files.iter().filter(|(name, _)| is_rust(name)) {
        let stem = name.trim_end_matches(".rs");
        let (folder, file) = stem.rsplit_once('/').unwrap_or(("", stem));
        let home = if ["lib", "main", "mod"].contains(&file) { folder } else { stem };
        paths.extend(Source::new(text).test_modules.iter().map(|module| format!("{home}/{module}")));
    }
    paths
}

fn assert_clean(mut findings: Vec<Finding>) {
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    let text: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "\n{} house rule(s) broken:\n{}\n", text.len(), text.join("\n"));
}

#[test]
fn text_is_tidy() {
    assert_clean(text_files().iter().flat_map(|(name, text)| rules::whitespace(name, text)).collect());
}

#[test]
fn source_files_are_short() {
    let files = text_files();
    let rust = files.iter().filter(|(name, _)| is_rust(name));
    assert_clean(rust.flat_map(|(name, text)| rules::file_length(name, text)).collect());
}

#[test]
fn production_code_makes_no_banned_call() {
    let files = text_files();
    let test_modules = test_module_paths(&files);
    let production = files.iter().filter(|(name, _)| is_rust(name) && is_production(name, &test_modules));
    assert_clean(production.flat_map(|(name, text)| rules::banned_calls(name, &Source::new(text))).collect());
}

#[test]
fn unsafe_code_is_allowed_and_explained() {
    let files = text_files();
    let rust = files.iter().filter(|(name, _)| is_rust(name));
    assert_clean(
        rust.flat_map(|(name, text)| rules::unsafe_is_explained(name, &Source::new(text))).collect(),
    );
}

#[test]
fn crates_depend_downwards_only() {
    assert_clean(layers::findings(&layers::workspace_crates(&workspace_root())));
}

#[test]
fn confined_names_stay_at_home() {
    let files = text_files();
    let test_modules = test_module_paths(&files);
    let production = files.iter().filter(|(name, _)| is_rust(name) && is_production(name, &test_modules));
    assert_clean(
        production.flat_map(|(name, text)| rules::confined_names(name, &Source::new(text))).collect(),
    );
}

#[test]
fn documents_are_linked_and_links_resolve() {
    let files = text_files();
    let root = workspace_root();
    let pages: Vec<_> = files.iter().filter(|(name, _)| has_ending(name, "md")).collect();
    let mut findings: Vec<Finding> = pages
        .iter()
        .flat_map(|(name, text)| rules::links_resolve(name, text, |path| root.join(path).exists()))
        .collect();
    let readme = files.iter().find(|(name, _)| name == "README.md").map_or("", |(_, text)| text);
    let linked: BTreeSet<&str> = readme.lines().flat_map(rules::link_targets).collect();
    for (name, _) in pages.iter().filter(|(name, _)| name.starts_with("docs/")) {
        if !linked.contains(name.as_str()) {
            findings.push(Finding {
                path: name.clone(),
                line: 0,
                rule: "not linked from README.md".to_owned(),
            });
        }
    }
    assert_clean(findings);
}

#[test]
fn test_modules_in_files_of_their_own_are_recognised() {
    let files = vec![
        ("store/src/lib.rs".to_owned(), "#[cfg(test)]\nmod simulation;\nmod queue;\n".to_owned()),
        ("store/src/queue.rs".to_owned(), "#[cfg(test)]\nmod tests;\n".to_owned()),
    ];
    let modules = test_module_paths(&files);
    assert!(!is_production("store/src/simulation.rs", &modules));
    assert!(!is_production("store/src/simulation/world.rs", &modules));
    assert!(!is_production("store/src/queue/tests.rs", &modules));
    assert!(!is_production("store/tests/queue.rs", &modules));
    assert!(is_production("store/src/queue.rs", &modules));
}
