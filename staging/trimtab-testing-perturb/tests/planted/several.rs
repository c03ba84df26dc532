//! A bug that shows when two things go wrong, and not when one does: what is reported is those two.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::{Api, PostParams};
use trimtab_testing_perturb::Perturb;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Makes three Secrets; gives up for good at the second failure, if it has its bug.
async fn makes_three(client: Client, has_bug: bool) -> Result<(), String> {
    let (maps, secrets) = (
        Api::<ConfigMap>::default_namespaced(client.clone()),
        Api::<Secret>::default_namespaced(client),
    );
    while maps.get_opt("go").await.ok().flatten().is_none() {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let mut failures = 0;
    for name in NAMES {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        loop {
            match secrets.create(&PostParams::default(), &secret).await {
                Ok(_) => break,
                Err(kube::Error::Api(status)) if status.is_already_exists() => break,
                Err(_) if has_bug && failures == 1 => return std::future::pending().await,
                Err(_) => failures += 1,
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
    std::future::pending().await
}

fn test(has_bug: bool) -> Perturb {
    let mut go = ConfigMap::default();
    go.metadata.name = Some("go".to_owned());
    Perturb::new(move |client, _| makes_three(client, has_bug)).scenario(|users| {
        users
            .create(go)
            .until("all are there", |world| world.count::<Secret>() == NAMES.len())
    })
}

#[test]
fn is_found_and_made_as_small_as_it_is() {
    let report = test(true).plans(usize::MAX).several(60).report();
    assert!(!report.failures.is_empty(), "several things at once are tried");
    for failure in report.failures {
        let faults: Vec<_> = failure.plan.split(" + ").collect();
        assert_eq!(faults.len(), 2, "{failure}");
        for fault in faults {
            let (trouble, point) = fault.split_once('@').expect("a fault");
            assert!(
                ["conflict", "throttle", "error", "timeout", "lost"].contains(&trouble),
                "{failure}"
            );
            assert!(point.starts_with("create:secrets/default/"), "{failure}");
            test(true).replay(fault); // alone it does no harm
        }
        let both = std::panic::catch_unwind(|| test(true).replay(&failure.plan));
        assert!(both.is_err(), "{failure}");
    }
}

#[test]
fn done_right_passes() {
    test(false).plans(17).several(60).check();
}
