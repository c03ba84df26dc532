//! A program with what its users do to it: the same for every way in which it is run.

use fastrand::Rng;
use kube::Client;
use kube::core::ApiResource;
use serde_json::Value;
use trimtab::prelude::*;
use trimtab::testing::{EnvError, TestEnv};

use super::acts::Act;
use super::history::Moment;

/// A program, and what happens to it. Each value is a world of its own.
pub(crate) trait Scenario: Default + Send + Sync + 'static {
    /// Makes known what the program works on, and starts who works on what it makes.
    fn prepare(&self, env: &mut TestEnv) -> impl Future<Output = Result<(), EnvError>>;

    /// The program.
    fn manager(&self, client: Client) -> Result<Manager>;

    /// What there is to see of it in the cluster.
    fn kinds(&self) -> Vec<ApiResource>;

    /// What people do, one thing after the other. Where it ends must not depend on when they do it.
    fn script(&self) -> Vec<Act>;

    /// What must hold at every moment, whatever goes wrong.
    fn always(&self, moment: &Moment<'_>) -> Result<(), String>;

    /// Makes trouble outside the cluster, or ends it.
    fn trouble(&self, _trouble: Option<Rng>) {}

    /// What there is outside the cluster.
    fn outside(&self) -> Value {
        Value::Null
    }
}
