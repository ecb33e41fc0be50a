//! stub
#![allow(missing_docs)]
use crate::{api::Span, engine::scripts::VersionedScript, worker::ladder::Ladder};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
#[derive(Deserialize)]
pub struct Verdict {
    pub message: String,
}
impl Verdict {
    pub fn is_terminal(&self) -> bool {
        false
    }
}
pub const FORMAT_VERSION: u32 = 1;
pub const DEFAULT_PATH: &str = "/etc/alongside/task.json";
pub const DEFAULT_LOCK_TIMEOUT: Span = Span::secs(2);
#[derive(Serialize)]
pub struct Task {
    pub format_version: u32,
    pub migration: MigrationRef,
    pub phase: String,
    pub attempt: u32,
    pub try_: u32,
    pub role: Role,
    pub store: StoreRef,
    pub scripts: Vec<VersionedScript>,
    pub lock_timeout: Span,
    pub statement_timeout: Option<Span>,
    pub lint: LintTask,
    pub adopt: Vec<String>,
    pub retry: Ladder,
}
#[derive(Serialize)]
pub struct MigrationRef {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}
#[derive(Serialize)]
pub enum Role {
    Preflight,
    Up,
    Down,
}
#[derive(Serialize)]
pub struct StoreRef {
    pub name: String,
    pub uri_file: PathBuf,
}
#[derive(Serialize)]
pub struct LintTask {
    pub allow: Vec<String>,
    pub past_no_return: bool,
}
