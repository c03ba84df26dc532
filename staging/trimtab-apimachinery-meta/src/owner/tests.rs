//! References set, found and removed; where owners must be; and what is done with objects that are claimed.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;

use super::*;

fn metadata(namespace: &str, name: &str, uid: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectMeta::default()
    }
}

fn deployment(namespace: &str, name: &str, uid: &str) -> Deployment {
    Deployment {
        metadata: metadata(namespace, name, uid),
        ..Deployment::default()
    }
}

#[test]
fn a_controller_is_set_once_and_refreshed() {
    let mut object = metadata("ns", "pod", "p");
    set_controller_reference(&deployment("ns", "web", "1"), &mut object).expect("first controller");
    set_controller_reference(&deployment("ns", "web", "2"), &mut object).expect("the same one, made again");
    let controller = controller_of(&object).expect("there is one");
    assert_eq!(
        (controller.uid.as_str(), controller.block_owner_deletion),
        ("2", Some(true))
    );
    assert_eq!(object.owner_references.as_deref().map(<[_]>::len), Some(1));

    let before = object.clone();
    let other = set_controller_reference(&deployment("ns", "other", "3"), &mut object);
    assert!(matches!(other, Err(OwnerError::AlreadyOwned { name, .. }) if name == "web"));
    assert_eq!(object, before);

    set_owner_reference(&deployment("ns", "other", "3"), &mut object).expect("a plain owner may join");
    assert_eq!(object.owner_references.as_deref().map(<[_]>::len), Some(2));
    let web = controller_of(&object).expect("still there").clone();
    assert!(remove_owner_reference(&mut object, &web) && !remove_owner_reference(&mut object, &web));
    assert_eq!(controller_of(&object), None);
}

#[test]
fn owners_must_be_where_garbage_collection_finds_them() {
    let owner = deployment("ns", "web", "1");
    let elsewhere = set_controller_reference(&owner, &mut metadata("other", "pod", "p"));
    assert!(matches!(elsewhere, Err(OwnerError::CrossNamespace { .. })));
    let cluster = set_controller_reference(&owner, &mut metadata("", "node", "n"));
    assert!(matches!(cluster, Err(OwnerError::NamespacedOwner { .. })));
    let node = Node {
        metadata: metadata("", "node", "n"),
        ..Node::default()
    };
    assert_eq!(
        set_controller_reference(&node, &mut metadata("ns", "pod", "p")),
        Ok(())
    );
    let unread = Deployment {
        metadata: ObjectMeta::default(),
        ..Deployment::default()
    };
    let unread = set_controller_reference(&unread, &mut metadata("ns", "pod", "p"));
    assert_eq!(unread, Err(OwnerError::NoIdentity));
}

#[test]
fn a_reference_is_what_one_says_it_is() {
    let web = deployment("ns", "web", "1");
    let plain = reference_to(&web).expect("it has a name and a uid");
    assert_eq!((plain.controller, plain.block_owner_deletion), (None, None));
    let mut object = metadata("ns", "pod", "p");
    let waited_for = OwnerReference {
        block_owner_deletion: Some(true),
        ..plain.clone()
    };
    set_reference(Some("ns"), waited_for.clone(), &mut object).expect("it is complete");
    assert_eq!(object.owner_references.as_deref(), Some(&[waited_for][..]));
    assert!(is_owned_by(&object, "1") && !is_owned_by(&object, "2"));
    assert!(!is_controlled_by(&object, "1"));

    set_controller_reference(&web, &mut object).expect("no other controls it");
    assert_eq!(
        controller_of(&object),
        controller_reference_to(&web).ok().as_ref()
    );
    assert!(is_controlled_by(&object, "1") && !is_controlled_by(&object, "2"));
    set_owner_reference(&web, &mut object).expect("an owner may step back");
    assert_eq!(
        object.owner_references.as_deref(),
        Some(&[plain][..]),
        "one reference for one owner"
    );
}

#[test]
fn references_are_checked_before_they_are_set() {
    let reference = reference_to(&deployment("ns", "web", "1")).expect("it has a name and a uid");
    let with = |change: fn(&mut OwnerReference)| {
        let mut reference = reference.clone();
        change(&mut reference);
        reference
    };
    let cases = [
        (Some("ns"), with(|r| r.uid.clear()), OwnerError::Incomplete("uid")),
        (
            Some("ns"),
            with(|r| r.name.clear()),
            OwnerError::Incomplete("name"),
        ),
        (
            Some("ns"),
            with(|r| r.kind.clear()),
            OwnerError::Incomplete("kind"),
        ),
        (
            Some("ns"),
            with(|r| r.api_version.clear()),
            OwnerError::Incomplete("apiVersion"),
        ),
        (
            Some("other"),
            reference.clone(),
            OwnerError::CrossNamespace {
                owner: "other".to_owned(),
                object: "ns".to_owned(),
            },
        ),
    ];
    for (namespace, reference, error) in cases {
        let mut object = metadata("ns", "pod", "p");
        let before = object.clone();
        assert_eq!(set_reference(namespace, reference, &mut object), Err(error));
        assert_eq!(object, before);
    }
}

#[test]
fn what_is_removed_is_what_was_meant() {
    let web = reference_to(&deployment("ns", "web", "1")).expect("it has a name and a uid");
    let former = OwnerReference {
        uid: "0".to_owned(),
        ..web.clone()
    };
    let other = OwnerReference {
        name: "other".to_owned(),
        uid: "2".to_owned(),
        controller: Some(true),
        ..web.clone()
    };
    type Removal<'a> = &'a dyn Fn(&mut ObjectMeta) -> bool;
    let cases: [(Removal<'_>, &[&str]); 6] = [
        (&|object| remove_owner_reference(object, &web), &["2"]),
        (&|object| remove_owner_reference(object, &other), &["1", "0"]),
        (&|object| remove_owner(object, "0"), &["1", "2"]),
        (&|object| remove_owner(object, "9"), &["1", "2", "0"]),
        (
            &|object| remove_controller_reference(object, &web),
            &["1", "2", "0"],
        ),
        (&|object| remove_controller_reference(object, &other), &["1", "0"]),
    ];
    for (index, (remove, expected)) in cases.into_iter().enumerate() {
        let mut object = metadata("ns", "pod", "p");
        object.owner_references = Some(vec![web.clone(), other.clone(), former.clone()]);
        assert_eq!(remove(&mut object), expected.len() < 3, "case {index}");
        let uids = object.owner_references.iter().flatten().map(|r| r.uid.as_str());
        assert_eq!(uids.collect::<Vec<_>>(), expected, "case {index}");
    }
}
