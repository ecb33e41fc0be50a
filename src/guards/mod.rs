//! stub
#![allow(missing_docs)]
mod watch;
use crate::api::{Migration, Time};
use crate::engine::world::Finding;
pub use watch::*;
#[derive(Default)]
pub struct Providers;
impl Providers {
    pub fn load(_: &std::path::Path) -> Result<Self, std::io::Error> {
        Ok(Self)
    }
}
pub struct Board;
pub struct Events;
impl Events {
    pub async fn next(&mut self) -> BoardEvent {
        std::future::pending().await
    }
}
impl Board {
    pub fn start(_: Providers) -> (Self, Events) {
        (Board, Events)
    }
    pub fn register(&self, _: &mut prometheus_client::registry::Registry) {}
    pub fn look(&self, _: &str, _: Time) -> BoardView {
        BoardView::default()
    }
    pub fn watch(&self, _: WatchKey, _: WatchSet) {}
    pub fn forget(&self, _: &str) {}
    pub fn preflight(&self, _: &Migration) -> Vec<Finding> {
        vec![]
    }
}
pub mod promql {
    pub fn parse(_: &str) -> Result<(), std::fmt::Error> {
        Ok(())
    }
}
