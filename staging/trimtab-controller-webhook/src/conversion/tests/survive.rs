//! What survives a way to another version and back, and that losses are found.

use proptest::prelude::*;

use super::super::{Lost, hub_round_trip, spoke_round_trip};
use crate::tests::websites::{Page, Website, WebsiteSpec, v1alpha1, v1beta1};

fn hubs() -> impl Strategy<Value = Website> {
    let text = || "[a-z\"\\\\]{0,3}";
    let page = (text(), text()).prop_map(|(name, text)| Page { name, text });
    let labels = prop::option::of(prop::collection::btree_map(text(), text(), 1..3));
    let spec = (
        prop::option::of(text()),
        text(),
        prop_oneof![Just("white".to_owned()), text()],
        prop::option::of(any::<i32>()),
        prop::collection::vec(page, 0..3),
    );
    (labels, spec).prop_map(|(labels, (host, text, color, replicas, pages))| {
        let spec = WebsiteSpec {
            host,
            // What the test's conversions fail at.
            text: text.replace("error", ""),
            color,
            replicas,
            pages,
        };
        let mut site = Website::new("a", spec);
        site.metadata.labels = labels;
        site
    })
}

proptest! {
    #[test]
    fn what_a_careful_spoke_lacks_is_kept(hub in hubs()) {
        prop_assert_eq!(hub_round_trip::<v1beta1::Website>(hub), Ok(()));
    }

    #[test]
    fn what_a_hub_can_express_comes_back(html in "[a-d]{0,3}", replicas in any::<Option<i32>>()) {
        let spoke = v1beta1::Website::new("a", v1beta1::WebsiteSpec { html, replicas });
        prop_assert_eq!(spoke_round_trip(spoke), Ok(()));
    }
}

#[test]
fn losses_are_found_and_named() {
    let spec = WebsiteSpec {
        color: "red".to_owned(),
        ..WebsiteSpec::default()
    };
    let lost = hub_round_trip::<v1alpha1::Website>(Website::new("a", spec)).expect_err("it is careless");
    let says = lost.to_string();
    assert!(
        says.contains("/spec/color") && says.contains("/metadata/labels"),
        "{says}"
    );

    let failing = v1beta1::WebsiteSpec {
        html: "error".to_owned(),
        replicas: None,
    };
    let lost = spoke_round_trip(v1beta1::Website::new("a", failing)).expect_err("it fails");
    assert!(matches!(lost, Lost::Failed { .. }));
    assert_eq!(
        lost.to_string(),
        "the conversion into the hub failed: it says error"
    );
}
