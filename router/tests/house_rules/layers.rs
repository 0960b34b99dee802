//! Which crate may depend on which: arrows point down only.

use std::path::Path;
use std::process::Command;

use crate::rules::Finding;

/// One crate's place in the workspace.
struct Layer {
    name: &'static str,
    /// Crates of ours that it may depend on.
    below: &'static [&'static str],
    /// Crates of ours that its tests may use besides.
    for_tests: &'static [&'static str],
    /// May use the kernel's rings.
    io_uring: bool,
}

const fn layer(name: &'static str, below: &'static [&'static str]) -> Layer {
    Layer { name, below, for_tests: &[], io_uring: false }
}

const LAYERS: &[Layer] = &[
    layer("ringpost-protocol", &[]),
    layer("ringpost-store", &["ringpost-protocol"]),
    Layer {
        for_tests: &["ringpost-client"],
        io_uring: true,
        ..layer("ringpost-shard", &["ringpost-protocol", "ringpost-store"])
    },
    Layer {
        for_tests: &["ringpost-client"],
        ..layer("ringpost-router", &["ringpost-protocol", "ringpost-store", "ringpost-shard"])
    },
    layer("ringpost-client", &["ringpost-protocol"]),
    layer("ringpost-loadgen", &["ringpost-client", "ringpost-protocol"]),
    layer(
        "ringpost-bench",
        &["ringpost-protocol", "ringpost-store", "ringpost-shard", "ringpost-client", "ringpost-router"],
    ),
];

/// One crate as cargo reads it.
pub struct Crate {
    pub name: String,
    /// Path of its manifest from the root.
    pub manifest: String,
    pub dependencies: Vec<Dependency>,
}

pub struct Dependency {
    pub name: String,
    pub for_tests: bool,
}

pub fn workspace_crates(root: &Path) -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| Crate {
            name: text(&package["name"]),
            manifest: Path::new(package["manifest_path"].as_str().unwrap())
                .strip_prefix(root.canonicalize().unwrap())
                .unwrap()
                .to_string_lossy()
                .into_owned(),
            dependencies: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| Dependency { name: text(&d["name"]), for_tests: d["kind"] == "dev" })
                .collect(),
        })
        .collect()
}

pub fn findings(crates: &[Crate]) -> Vec<Finding> {
    assert!(crates.len() > 1, "cargo metadata named no crates");
    let mut findings = Vec::new();
    for package in crates {
        let mut broken = |rule: String| {
            findings.push(Finding { path: package.manifest.clone(), line: 0, rule });
        };
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == package.name) else {
            broken(format!("{} has no place in the layers: add it to LAYERS", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if name == "io-uring" && !layer.io_uring {
                broken(format!("{} may not depend on io-uring", layer.name));
            }
            let ours = name.starts_with("ringpost-");
            // A crate's tests may switch a feature of the crate itself on.
            let for_tests = layer.for_tests.contains(&name) || name == layer.name;
            let allowed = layer.below.contains(&name) || (dependency.for_tests && for_tests);
            if ours && !allowed {
                broken(format!("{} may not depend on {name}: arrows point down only", layer.name));
            }
        }
    }
    findings
}

#[test]
fn an_upward_dependency_is_found() {
    let package = |name: &str, dependency: &str, for_tests| Crate {
        name: name.to_owned(),
        manifest: format!("{name}/Cargo.toml"),
        dependencies: vec![Dependency { name: dependency.to_owned(), for_tests }],
    };
    let crates = [
        package("ringpost-protocol", "ringpost-store", false),
        package("ringpost-store", "io-uring", false),
        package("ringpost-router", "ringpost-client", false),
        package("ringpost-router", "ringpost-client", true),
        package("ringpost-store", "ringpost-store", true),
        package("ringpost-shard", "ringpost-store", false),
        package("ringpost-unheard-of", "serde", false),
    ];
    let found: Vec<String> = findings(&crates).iter().map(|f| f.path.clone()).collect();
    let expected = ["ringpost-protocol", "ringpost-store", "ringpost-router", "ringpost-unheard-of"];
    assert_eq!(found, expected.map(|name| format!("{name}/Cargo.toml")));
}
