//! A Git repository that Argo CD syncs from.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// A repository with one branch, `main`.
pub struct Repository(PathBuf);

impl Repository {
    /// Makes an empty one.
    pub fn begins_in(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let repository = Self(folder);
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    /// Where Argo CD finds it.
    pub fn url(&self) -> String {
        format!("file://{}", self.0.display())
    }

    /// Writes objects, each into a file of its own, and commits. Returns the commit.
    pub fn commits<'a>(&self, message: &str, files: impl IntoIterator<Item = (&'a str, Value)>) -> String {
        for (name, object) in files {
            let text = serde_saphyr::to_string(&object).expect("an object can be written");
            std::fs::write(self.0.join(format!("{name}.yaml")), text).expect("a file can be written");
        }
        self.commit(message)
    }

    /// Takes a file away and commits. Returns the commit.
    pub fn removes(&self, name: &str) -> String {
        std::fs::remove_file(self.0.join(format!("{name}.yaml"))).expect("the file is there");
        self.commit(&format!("Remove {name}"))
    }

    /// Copies a folder into it and commits. Returns the commit.
    pub fn copies(&self, folder: &Path) -> String {
        let copied = Command::new("cp").arg("-r").arg(folder).arg(&self.0).status().expect("cp can be run");
        assert!(copied.success());
        self.commit("Copy")
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        let who = ["-c", "user.name=Dev", "-c", "user.email=dev@shop.example", "-c", "commit.gpgsign=false"];
        self.git(&[&who[..], &["commit", "--quiet", "--message", message]].concat());
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    fn git(&self, args: &[&str]) -> String {
        let said = Command::new("git").arg("-C").arg(&self.0).args(args).output().expect("git can be run");
        assert!(said.status.success(), "git {}: {}", args.join(" "), String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).into_owned()
    }
}
