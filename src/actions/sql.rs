//! stub
#![allow(missing_docs)]
use super::*;
use crate::{api::SqlAction, engine::scripts::VersionedScript};
use k8s_openapi::api::core::v1::ConfigMap;
pub async fn preflight(_: At<'_>, _: &Client) -> Vec<Finding> {
    vec![]
}
pub fn job(_: At<'_>, _: &SqlAction, _: &JobOrder, _: &str) -> Job {
    Job::default()
}
pub fn task(_: At<'_>, _: &JobOrder, _: &[VersionedScript]) -> ConfigMap {
    ConfigMap::default()
}
