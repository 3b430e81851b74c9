//! The arrows between the crates, as ARCHITECTURE.md draws them, and the licences of everything they stand on.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// What a crate must never stand on, directly or through others. A name that ends in `*` is a family.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "seodang-model",
        &[
            "tokio*",
            "rtc",
            "rtc-*",
            "webrtc",
            "gstreamer*",
            "warp",
            "sqlx*",
            "seodang-*",
        ],
    ),
    (
        "seodang-rtp",
        &[
            "tokio*",
            "gstreamer*",
            "warp",
            "sqlx*",
            "rtc",
            "rtc-*",
            "webrtc",
            "seodang-*",
        ],
    ),
    (
        "seodang-sfu",
        &[
            "warp",
            "sqlx*",
            "gstreamer*",
            "seodang-recorder",
            "seodang-analyzer",
            "seodang-signal",
            "seodang-fixtures",
        ],
    ),
    (
        "seodang-recorder",
        &[
            "rtc",
            "rtc-*",
            "webrtc",
            "warp",
            "sqlx*",
            "seodang-sfu",
            "seodang-signal",
            "seodang-analyzer",
        ],
    ),
    (
        "seodang-analyzer",
        &[
            "warp",
            "sqlx*",
            "rtc",
            "rtc-*",
            "seodang-sfu",
            "seodang-recorder",
            "seodang-signal",
        ],
    ),
    (
        "seodang-fixtures",
        &[
            "seodang-signal",
            "seodang-sfu",
            "seodang-recorder",
            "seodang-analyzer",
            "warp",
            "sqlx*",
        ],
    ),
    ("seodang-signal", &["seodang-tests"]),
];

#[test]
fn no_crate_stands_on_what_it_must_not_know() {
    let metadata = metadata();
    let graph = dependencies(&metadata);
    let mut wrong = Vec::new();
    for (crate_name, forbidden) in FORBIDDEN {
        let reached = reached(&metadata, &graph, crate_name);
        assert!(!reached.is_empty(), "{crate_name} is in no workspace");
        for name in reached.iter().filter(|name| name != &crate_name) {
            if forbidden.iter().any(|pattern| is_of(name, pattern)) {
                wrong.push(format!("{crate_name} -> {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden: {wrong:#?}");
}

#[test]
fn every_crate_of_the_workspace_has_its_arrows_written_down() {
    let metadata = metadata();
    let named: BTreeSet<&str> = FORBIDDEN
        .iter()
        .map(|(name, _)| *name)
        .chain(["seodang-tests"])
        .collect();
    let found: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(named, found);
}

#[test]
fn nothing_linked_in_has_a_licence_that_spreads() {
    let metadata = metadata();
    let graph = dependencies(&metadata);
    let linked = reached(&metadata, &graph, "seodang-signal");
    let wrong: Vec<String> = metadata
        .packages
        .iter()
        .filter(|package| linked.contains(package.name.as_str()))
        .filter(|package| !is_free_to_link(package.license.as_deref()))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_licence_counts_by_its_kindest_choice() {
    for kind in [
        "MIT",
        "MIT OR Apache-2.0",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
    ] {
        assert!(is_free_to_link(Some(kind)), "{kind}");
    }
    for strict in [
        None,
        Some("GPL-3.0"),
        Some("AGPL-3.0-only"),
        Some("MIT AND GPL-2.0"),
        Some("LGPL-2.1 OR GPL-2.0"),
    ] {
        assert!(!is_free_to_link(strict), "{strict:?}");
    }
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .other_options(vec!["--locked".to_owned(), "--offline".to_owned()])
        .exec()
        .expect("cargo describes the workspace it has just built")
}

/// Edges of the build: dependencies for tests alone do not count.
fn dependencies(metadata: &Metadata) -> BTreeMap<&PackageId, Vec<&PackageId>> {
    let resolve = metadata.resolve.as_ref().expect("cargo resolves the workspace");
    let edges = resolve.nodes.iter().map(|node| {
        let needed = node.deps.iter().filter(|dependency| {
            dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal)
        });
        (&node.id, needed.map(|dependency| &dependency.pkg).collect())
    });
    edges.collect()
}

/// Names of everything below a crate, itself included.
fn reached<'a>(
    metadata: &'a Metadata,
    graph: &BTreeMap<&'a PackageId, Vec<&'a PackageId>>,
    crate_name: &str,
) -> BTreeSet<&'a str> {
    let start = metadata
        .packages
        .iter()
        .filter(|package| package.name.as_str() == crate_name);
    let mut open: Vec<&PackageId> = start.map(|package| &package.id).collect();
    let mut seen: BTreeSet<&PackageId> = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(graph.get(id).into_iter().flatten());
        }
    }
    seen.into_iter().map(|id| metadata[id].name.as_str()).collect()
}

fn is_of(name: &str, pattern: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(name == pattern, |family| name.starts_with(family))
}

/// Whether an SPDX expression leaves a choice without a licence of the GPL family.
fn is_free_to_link(expression: Option<&str>) -> bool {
    let Some(expression) = expression else {
        return false;
    };
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    expression
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|licence| !licence.contains("GPL")))
}
