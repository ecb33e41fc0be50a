//! The engine's scenarios: what it decides, told as sentences.

mod argocd;
mod back;
mod bound;
mod cleanup;
mod cluster;
mod deletion;
mod fixture;
mod forward;
mod guards;
mod holds;
mod jobs;
mod plans;
mod properties;
mod rest;
mod scene;
mod status;
mod stores;
mod verbs;
