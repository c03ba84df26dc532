//! Pod specs and pod templates, wherever they are written: in pods, in workload controllers, in pod templates.

mod defaults;
mod validate;
mod volume_defaults;

pub(in crate::strategies) use defaults::{default_pod_only, default_pod_spec, default_pod_template};
pub(in crate::strategies) use validate::{validate_pod_spec, validate_pod_template_spec};
