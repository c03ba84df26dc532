//! The patches that adopt and release, as a server takes them.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use trimtab::apimachinery::LabelSelector;
use trimtab::apimachinery::owner::{self, Claim, Claimant};
use trimtab::testing::{EnvError, TestEnv};

fn config(name: &str) -> ConfigMap {
    let object = json!({"metadata": {"name": name, "labels": {"app": "web"}}});
    serde_json::from_value(object).expect("it is one")
}

#[tokio::test]
async fn objects_are_adopted_and_released_by_both_kinds_of_patches() -> Result<(), EnvError> {
    let env = TestEnv::start().await?;
    let configs: Api<ConfigMap> = Api::default_namespaced(env.client());
    let create = async |name: &str| configs.create(&PostParams::default(), &config(name)).await;
    let apply = async |patch: Patch<Value>| configs.patch("child", &PatchParams::default(), &patch).await;
    let (web, guest) = (create("web").await?, create("guest").await?);
    let mut child = create("child").await?;

    let selector = LabelSelector::parse("app=web").expect("it is one");
    let claimant = Claimant::new(&web.metadata, &selector).expect("it was read");
    let reference = owner::controller_reference_to(&web).expect("it was read");
    let uid = reference.uid.clone();
    let plain = owner::reference_to(&guest).expect("it was read");
    owner::set_reference(Some("default"), plain, &mut child.metadata).expect("they are neighbours");
    child = configs.replace("child", &PostParams::default(), &child).await?;

    for strategic in [true, false] {
        assert_eq!(claimant.claim(&child.metadata), Claim::Adopt);
        let adopt = match strategic {
            true => {
                Patch::Strategic(owner::adopt_strategic(&reference, &child.metadata).expect("it was read"))
            }
            false => Patch::Merge(owner::adopt_merge(&reference, &child.metadata).expect("it was read")),
        };
        child = apply(adopt).await?;
        assert_eq!(claimant.claim(&child.metadata), Claim::Keep);
        assert_eq!(
            child.metadata.owner_references.as_deref().map(<[_]>::len),
            Some(2)
        );

        let release = match strategic {
            true => Patch::Strategic(owner::release_strategic(&uid, &child.metadata).expect("it was read")),
            false => Patch::Merge(owner::release_merge(&uid, &child.metadata).expect("it was read")),
        };
        child = apply(release).await?;
        assert_eq!(
            claimant.claim(&child.metadata),
            Claim::Adopt,
            "its labels are as they were"
        );
        assert_eq!(
            child.metadata.owner_references.as_deref().map(<[_]>::len),
            Some(1)
        );
    }

    child.metadata.uid = Some("00000000-0000-0000-0000-000000000000".to_owned());
    let other = owner::adopt_strategic(&reference, &child.metadata).expect("it has a uid");
    let refused = apply(Patch::Strategic(other)).await.err();
    assert!(
        matches!(&refused, Some(kube::Error::Api(status)) if status.code == 409 || status.code == 422),
        "a patch for another object of the same name is refused: {refused:?}"
    );
    env.shutdown().await
}
