//! The rooms of the house: who may use whom, read from the `use` lines and paths of the sources (design section 10).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A room, the rooms it may use beside itself, and for the pure ones the crates.
struct Room {
    name: &'static str,
    rooms: &'static [&'static str],
    /// Absent where any crate may be used.
    crates: Option<&'static [&'static str]>,
}

const ROOMS: &[Room] = &[
    Room {
        name: "api",
        rooms: &[],
        crates: Some(&["jiff", "k8s_openapi", "kube", "schemars", "serde", "serde_json", "std", "thiserror"]),
    },
    Room {
        name: "engine",
        rooms: &["api"],
        // Conditions are Kubernetes' type, written through `api`; a hash is no I/O.
        crates: Some(&["jiff", "k8s_openapi", "serde", "serde_json", "sha2", "std", "thiserror"]),
    },
    Room { name: "actions", rooms: &["api", "engine", "worker"], crates: None },
    Room { name: "guards", rooms: &["api", "engine"], crates: None },
    Room { name: "operator", rooms: &["actions", "api", "engine", "guards", "stores", "worker"], crates: None },
    // How scripts are cut and hashed is decided once, in the engine.
    Room { name: "stores", rooms: &["engine"], crates: None },
    Room { name: "worker", rooms: &["api", "engine", "stores"], crates: None },
    // The last two for `lint`: what the operator and the worker would say of queries and scripts, the plugin says before.
    Room { name: "cli", rooms: &["api", "engine", "guards", "stores"], crates: None },
];

/// What a pure room never touches: the clock, the network, files, threads, the environment, and printing.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::sync",
    "Instant",
    "SystemTime",
    "println!",
    "eprintln!",
    "dbg!",
    "tracing::",
    "tokio::",
    "rand::",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a room is a folder") {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A source without comments and strings, and without what only its tests use.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source is text");
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut code = String::new();
    for line in lines {
        for (at, part) in line.split('"').enumerate() {
            if at % 2 == 0 {
                code.push_str(part);
            }
        }
        code.push('\n');
    }
    code
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    ["properties", "sentences", "tests"].iter().any(|test| name == *test || name.ends_with(&format!("_{test}")))
}

/// First names of what a brace after `start` lists, or the one name that follows it.
fn names_after(code: &str, start: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(start) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + start.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.insert(word(item.trim()));
                    item.clear();
                }
                _ if depth == 0 => item.push(c),
                _ => {}
            }
        }
        names.insert(word(item.trim()));
    }
    names.remove("");
    names
}

/// Crates that `use` lines name.
fn crates_used(code: &str, own: &BTreeSet<String>) -> BTreeSet<String> {
    let lines = code.lines().map(str::trim_start).map(|line| line.strip_prefix("pub ").unwrap_or(line));
    let uses = lines.filter_map(|line| line.strip_prefix("use "));
    let first = uses.map(|path| path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>());
    first.filter(|name| !["crate", "super", "self", ""].contains(&name.as_str()) && !own.contains(name)).collect()
}

/// Names of a room's own modules and types: a `use` of these leaves nobody's room.
fn own_names(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in sources(folder) {
        let text = code(&path);
        for keyword in ["mod ", "enum ", "struct "] {
            names.extend(names_after(&text, keyword));
        }
    }
    names
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn broken_rules() -> BTreeMap<String, Vec<String>> {
    let mut broken: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for room in ROOMS.iter().filter(|room| src().join(room.name).is_dir()) {
        let folder = src().join(room.name);
        let own = own_names(&folder);
        for path in sources(&folder).into_iter().filter(|path| !is_test(path)) {
            let text = code(&path);
            let mut say = |what: String| broken.entry(path.display().to_string()).or_default().push(what);
            for other in names_after(&text, "crate::") {
                let is_room = ROOMS.iter().any(|known| known.name == other);
                if is_room && other != room.name && !room.rooms.contains(&other.as_str()) {
                    say(format!("{} may not use {other}", room.name));
                }
            }
            let Some(allowed) = room.crates else { continue };
            for name in crates_used(&text, &own) {
                if !allowed.contains(&name.as_str()) {
                    say(format!("{} may not use the crate {name}", room.name));
                }
            }
            for impure in IMPURE.iter().filter(|impure| text.contains(**impure)) {
                say(format!("{} is pure and may not use {impure}", room.name));
            }
        }
    }
    broken
}

#[test]
fn no_room_uses_what_is_not_its_own() {
    let broken = broken_rules();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_folder_of_the_house_is_a_room() {
    for entry in fs::read_dir(src()).expect("the house has rooms") {
        let path = entry.expect("a folder can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let known = ROOMS.iter().any(|room| room.name == name) || name == "bin";
        assert!(!path.is_dir() || known, "src/{name} is no room: say in tests/rooms.rs what it may use");
    }
}

#[test]
fn the_reader_of_use_lines_sees_what_is_there() {
    let text = "use crate::{\n    api::{Span, Time},\n    guards::Poller,\n};\nfn f() { crate::operator::run() }\n";
    let names: Vec<String> = names_after(text, "crate::").into_iter().collect();
    assert_eq!(names, ["api", "guards", "operator"]);
    let own = BTreeSet::from(["cause".to_owned()]);
    let used = crates_used("use std::fmt;\npub use cause::Cause;\n    use reqwest::Client;\n", &own);
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["reqwest", "std"]);
}
