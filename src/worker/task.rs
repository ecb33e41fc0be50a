//! stub
#![allow(missing_docs)]
#[derive(serde::Deserialize)]
pub struct Verdict {
    pub message: String,
}
impl Verdict {
    pub fn is_terminal(&self) -> bool {
        false
    }
}
