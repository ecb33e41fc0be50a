//! stub
#![allow(missing_docs)]
#[derive(serde::Serialize, Default)]
pub struct Ladder;
