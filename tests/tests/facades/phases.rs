//! A phase from its declaration to the server that enforces it.

use kube::CustomResource;
use kube::api::{Api, Patch, PatchParams, PostParams};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trimtab::prelude::*;
use trimtab::testing::{EnvError, TestEnv};

#[derive(CustomResource, Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[kube(
    group = "tests.example.com",
    version = "v1",
    kind = "Backup",
    namespaced,
    status = "BackupStatus"
)]
struct BackupSpec {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
struct BackupStatus {
    phase: Option<BackupPhase>,
    #[serde(default)]
    volumes: i32,
}

#[derive(Phase, Clone, Debug, PartialEq, Eq)]
#[phase(enforce)]
enum BackupPhase {
    #[phase(initial, to(Running, Failed))]
    Pending,
    #[phase(to(Succeeded, Failed))]
    Running,
    #[phase(terminal)]
    Succeeded,
    #[phase(terminal)]
    Failed,
    #[phase(unknown)]
    Other(String),
}

#[tokio::test]
async fn the_server_refuses_what_was_not_declared() -> Result<(), EnvError> {
    let env = TestEnv::start().await?;
    env.install::<Backup>().await?;
    let backups: Api<Backup> = Api::default_namespaced(env.client());
    let write = async |phase: &str| {
        let status = Patch::Merge(json!({"status": {"phase": phase}}));
        let answer = backups
            .patch_status("nightly", &PatchParams::default(), &status)
            .await;
        match answer {
            Ok(backup) => Ok(backup.status.and_then(|status| status.phase)),
            Err(kube::Error::Api(status)) => Err((status.code, status.message)),
            Err(error) => panic!("the server answers: {error}"),
        }
    };
    backups
        .create(&PostParams::default(), &Backup::new("nightly", BackupSpec {}))
        .await?;
    assert_eq!(write("Pending").await, Ok(Some(BackupPhase::Pending)));
    assert_eq!(write("Running").await, Ok(Some(BackupPhase::Running)));
    let refusal = "Backup.tests.example.com \"nightly\" is invalid: status.phase: Invalid value: \"Pending\": cannot go from \
                   Running to Pending";
    assert_eq!(write("Pending").await, Err((422, refusal.to_owned())));

    // A newer version of the controller comes by, and this one then counts volumes without knowing what that one did.
    assert_eq!(
        write("Paused").await,
        Ok(Some(BackupPhase::Other("Paused".to_owned())))
    );
    let mut backup = backups.get("nightly").await?;
    let status = backup.status.get_or_insert_default();
    assert!(
        BackupPhase::Succeeded.enter(&mut status.phase).is_err(),
        "it is not this one's to leave"
    );
    status.volumes = 3;
    let kept = backups
        .replace_status("nightly", &PostParams::default(), &backup)
        .await?;
    let kept = kept.status.unwrap_or_default();
    assert_eq!(
        (kept.phase, kept.volumes),
        (Some(BackupPhase::Other("Paused".to_owned())), 3)
    );
    env.shutdown().await
}
