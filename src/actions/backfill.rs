//! `backfill`: fills new columns of a live table, in a Job with the operator's image.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};

use super::{At, worker};
use crate::{api::BackfillAction, engine::effect::JobOrder};

/// The worker's Job.
pub fn job(at: At<'_>, backfill: &BackfillAction, order: &JobOrder, image: &str) -> Job {
    worker::job(at, "backfill", &[&backfill.store], order, image)
}

/// What the worker is told.
pub fn task(_at: At<'_>, _backfill: &BackfillAction, _order: &JobOrder, _key: &str) -> ConfigMap {
    todo!()
}
