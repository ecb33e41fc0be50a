//! Files and the objects in them.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::{
    super::problem::Problem,
    yaml::{self, Kind, Node, NotYaml},
};

/// A file that has been read.
#[derive(Debug)]
pub struct File {
    /// Its path as it was given, or found below what was given.
    pub path: PathBuf,
    /// The objects in it.
    pub documents: Vec<Document>,
    /// Where it stops being YAML, if it does.
    pub error: Option<NotYaml>,
}

/// An object.
#[derive(Debug)]
pub struct Document {
    /// All of it.
    pub node: Node,
}

impl Document {
    /// Whether it is a Migration of ours, of whatever version.
    pub fn is_migration(&self) -> bool {
        self.is("Migration")
            && self.node.text("apiVersion").is_some_and(|version| version.starts_with("alongside.dev/"))
    }

    /// Whether it is of a kind.
    pub fn is(&self, kind: &str) -> bool {
        self.node.text("kind") == Some(kind)
    }

    /// Its name.
    pub fn name(&self) -> Option<&str> {
        self.node.get("metadata")?.text("name")
    }

    /// Its namespace, where it says one.
    pub fn namespace(&self) -> Option<&str> {
        self.node.get("metadata")?.text("namespace")
    }
}

impl File {
    /// Takes a text as a file's.
    pub fn of(path: PathBuf, text: &str) -> Self {
        let (nodes, error) = yaml::read(text);
        let documents = nodes.into_iter().flat_map(unlisted).map(|node| Document { node }).collect();
        Self { path, documents, error }
    }
}

/// The objects of a List, or the object itself.
fn unlisted(mut node: Node) -> Vec<Node> {
    if node.text("kind") != Some("List") {
        return vec![node];
    }
    let Kind::Mapping(fields) = &mut node.kind else { return Vec::new() };
    let items = fields.iter_mut().find(|(name, ..)| name == "items");
    match items.map(|(_, _, items)| std::mem::replace(&mut items.kind, Kind::List(Vec::new()))) {
        Some(Kind::List(items)) => items,
        Some(Kind::Scalar(..) | Kind::Mapping(_)) | None => Vec::new(),
    }
}

/// Reads files, folders and standard input. Files without any YAML or JSON ending are read only if they were named.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<File>, Problem> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(|source| Problem::Read { path: path.clone(), source })?;
            files.push(File::of(PathBuf::from("<stdin>"), &text));
        } else {
            let mut found = Vec::new();
            if path.is_dir() {
                walk(path, &mut found)?;
            } else {
                found.push(path.clone());
            }
            for path in found {
                let text = fs::read_to_string(&path).map_err(|source| Problem::Read { path: path.clone(), source })?;
                files.push(File::of(path, &text));
            }
        }
    }
    Ok(files)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Problem> {
    let refuse = |source| Problem::Read { path: folder.to_owned(), source };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(refuse)? {
        paths.push(entry.map_err(refuse)?.path());
    }
    paths.sort();
    for path in paths {
        // A link could lead round in a circle.
        if path.is_dir() && !path.is_symlink() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known)) {
            found.push(path);
        }
    }
    Ok(())
}
