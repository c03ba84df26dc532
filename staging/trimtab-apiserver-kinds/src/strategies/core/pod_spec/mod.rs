//! Pod specs and pod templates, wherever they are written: in pods, in workload controllers, in pod templates.

pub(super) mod containers;
mod defaults;
mod env;
mod probes;
mod scheduling;
mod security;
#[cfg(test)]
mod tests;
mod validate;
mod volume_defaults;
mod volumes;
mod warnings;

pub(in crate::strategies) use defaults::{default_pod_only, default_pod_spec, default_pod_template};
pub(in crate::strategies::core) use probes::port;
pub(in crate::strategies) use scheduling::validate_tolerations;
pub(in crate::strategies::core) use scheduling::{EFFECTS, merge_label_keys, node_selector};
pub(in crate::strategies) use validate::{validate_pod_spec, validate_pod_template_spec};
pub(in crate::strategies::core) use volumes::{no_backsteps, required, validate_kind, volume_sources};
pub(in crate::strategies) use warnings::pod_spec_warnings;
pub(in crate::strategies::core) use warnings::{OLD_VOLUMES, node_term_warnings};
