//! `verify`: proves that data is what it should be, in a Job with the operator's image.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};

use super::{At, worker};
use crate::{
    api::VerifyAction,
    engine::effect::{JobOrder, JobRole},
};

/// The worker's Job. It changes nothing, so nothing is taken back or cleared away.
pub fn job(at: At<'_>, verify: &VerifyAction, order: &JobOrder, image: &str) -> Option<Job> {
    let stores: Vec<&str> =
        [&verify.store, &verify.from, &verify.to].into_iter().flatten().map(String::as_str).collect();
    match order.role {
        JobRole::Preflight | JobRole::Do => Some(worker::job(at, "verify", &stores, order, image)),
        JobRole::Undo | JobRole::CleanUp => None,
    }
}

/// What the worker is told.
pub fn task(_at: At<'_>, _verify: &VerifyAction, _order: &JobOrder, _key: &str) -> Option<ConfigMap> {
    todo!()
}
