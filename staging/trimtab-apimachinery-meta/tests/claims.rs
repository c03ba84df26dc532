//! Claims on objects and the patches that follow from them, by the clauses of the module `owner`, as a server would
//! apply them.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use proptest::prelude::*;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::LabelSelector;
use trimtab_apimachinery_meta::owner::{self, Claim, ClaimError, Claimant, OwnerError};
use trimtab_apimachinery_schema::{Schema, patch, schema::Type};

// === a small world ===

fn reference(uid: &str, name: &str, controller: Option<bool>) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "ReplicaSet".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller,
        block_owner_deletion: controller,
    }
}

/// An owner; its name is always the same, so that only the UID can tell it from its former selves.
fn an_owner(uid: &str, deleting: bool) -> ObjectMeta {
    ObjectMeta {
        name: Some("web".to_owned()),
        namespace: Some("ns".to_owned()),
        uid: Some(uid.to_owned()),
        deletion_timestamp: deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
        ..ObjectMeta::default()
    }
}

fn an_object(label: &str, references: Vec<OwnerReference>, deleting: bool) -> ObjectMeta {
    ObjectMeta {
        labels: Some([("app".to_owned(), label.to_owned())].into()),
        owner_references: (!references.is_empty()).then_some(references),
        resource_version: Some("7".to_owned()),
        ..an_owner("object", deleting)
    }
}

fn selector() -> LabelSelector {
    LabelSelector::parse("app=web").expect("it is one")
}

fn claim(owner: &ObjectMeta, object: &ObjectMeta) -> Claim {
    let selector = selector();
    Claimant::new(owner, &selector)
        .expect("it has a uid")
        .claim(object)
}

/// The object after the server has applied a patch: refused if a precondition does not hold.
fn patched(object: &ObjectMeta, patch: &Value, strategic: bool) -> Result<ObjectMeta, &'static str> {
    let before = json!({ "metadata": object });
    let mut after = before.clone();
    if strategic {
        after = patch::strategic(&built_in(), &before, patch).map_err(|_| "not understood")?;
    } else {
        patch::merge(&mut after, patch);
    }
    for precondition in ["uid", "resourceVersion"] {
        if after["metadata"][precondition] != before["metadata"][precondition] {
            return Err("precondition failed");
        }
    }
    serde_json::from_value(after["metadata"].take()).map_err(|_| "not an object any more")
}

/// As the schema of built-in kinds has it: owner references are merged by UID.
fn built_in() -> Schema {
    let of = |type_| Schema {
        type_: Some(type_),
        ..Schema::default()
    };
    let references = Schema {
        items: Some(Arc::new(of(Type::Object))),
        patch_merge: true,
        patch_merge_key: "uid".to_owned(),
        ..of(Type::Array)
    };
    let metadata = Schema {
        properties: [("ownerReferences".to_owned(), Arc::new(references))].into(),
        ..of(Type::Object)
    };
    Schema {
        properties: [("metadata".to_owned(), Arc::new(metadata))].into(),
        ..of(Type::Object)
    }
}

// === the clauses ===

/// *By UID*: the names of the owner and in the references do not matter.
fn by_uid(owner: &ObjectMeta, object: &ObjectMeta) -> Result<(), TestCaseError> {
    let renamed_owner = ObjectMeta {
        name: Some("another".to_owned()),
        ..owner.clone()
    };
    let mut renamed_object = object.clone();
    for reference in renamed_object.owner_references.iter_mut().flatten() {
        reference.name = format!("not-{}", reference.name);
        reference.kind = "Other".to_owned();
    }
    let expected = claim(owner, object);
    prop_assert_eq!(claim(&renamed_owner, object), expected, "By UID");
    prop_assert_eq!(claim(owner, &renamed_object), expected, "By UID");
    Ok(())
}

/// *One controller*: what another one controls is ignored; so of all claimants at most one keeps, or has to release.
fn one_controller(owner: &ObjectMeta, object: &ObjectMeta) -> Result<(), TestCaseError> {
    let controller = owner::controller_of(object).map(|r| r.uid.clone());
    match claim(owner, object) {
        Claim::Keep | Claim::Release => prop_assert_eq!(controller, owner.uid.clone(), "One controller"),
        Claim::Adopt => prop_assert_eq!(controller, None, "One controller"),
        Claim::Ignore => {}
    }
    Ok(())
}

/// *The dying decide nothing*.
fn the_dying_decide_nothing(owner: &ObjectMeta, object: &ObjectMeta) -> Result<(), TestCaseError> {
    let found = claim(owner, object);
    if owner.deletion_timestamp.is_some() {
        prop_assert!(
            matches!(found, Claim::Keep | Claim::Ignore),
            "The dying decide nothing: {:?}",
            found
        );
    }
    if object.deletion_timestamp.is_some() {
        prop_assert_ne!(found, Claim::Adopt, "The dying decide nothing");
    }
    Ok(())
}

/// *Settled*: after the patch there is nothing to be done, and the references of others are what they were.
fn settled(owner: &ObjectMeta, object: &ObjectMeta) -> Result<(), TestCaseError> {
    let uid = owner.uid.as_deref().unwrap_or_default();
    let reference = reference(uid, "web", Some(true));
    let patches = match claim(owner, object) {
        Claim::Adopt => [
            owner::adopt_strategic(&reference, object),
            owner::adopt_merge(&reference, object),
        ],
        Claim::Release => [
            owner::release_strategic(uid, object),
            owner::release_merge(uid, object),
        ],
        Claim::Keep | Claim::Ignore => return Ok(()),
    };
    let others = |object: &ObjectMeta| {
        let references = object.owner_references.iter().flatten();
        references.filter(|r| r.uid != uid).cloned().collect::<Vec<_>>()
    };
    for (patch, strategic) in patches.into_iter().zip([true, false]) {
        let patch = patch.expect("the object has a uid and a version");
        let after = patched(object, &patch, strategic).expect("the object is as it was");
        let expected = match claim(owner, object) {
            Claim::Adopt => Claim::Keep,
            _ => Claim::Ignore,
        };
        prop_assert_eq!(claim(owner, &after), expected, "Settled: {}", patch);
        prop_assert_eq!(
            owner::is_owned_by(&after, uid),
            expected == Claim::Keep,
            "Settled: {}",
            patch
        );
        prop_assert_eq!(others(&after), others(object), "Settled: {}", patch);

        let other = ObjectMeta {
            uid: Some("made again".to_owned()),
            ..object.clone()
        };
        prop_assert_eq!(patched(&other, &patch, strategic), Err("precondition failed"));
    }
    Ok(())
}

fn any_references() -> impl Strategy<Value = Vec<OwnerReference>> {
    let uids = proptest::sample::subsequence(vec!["1", "2", "3"], 0..=3);
    let controller = proptest::option::of(proptest::sample::select(vec!["1", "2", "3"]));
    (uids, controller, any::<bool>()).prop_map(|(uids, controller, plain)| {
        let plain = plain.then_some(false);
        let reference = |uid: &str| {
            let controls = if controller == Some(uid) {
                Some(true)
            } else {
                plain
            };
            // The same name for all: an owner that was made again has it too.
            reference(uid, "web", controls)
        };
        uids.into_iter().map(reference).collect()
    })
}

proptest! {
    #[test]
    fn the_clauses_hold_for_all_owners_and_objects(
        uid in "[12]", dying in any::<(bool, bool)>(), label in "web|db", references in any_references()
    ) {
        let owner = an_owner(&uid, dying.0);
        let object = an_object(&label, references, dying.1);
        by_uid(&owner, &object)?;
        one_controller(&owner, &object)?;
        the_dying_decide_nothing(&owner, &object)?;
        settled(&owner, &object)?;
    }
}

// === case by case ===

#[test]
fn each_decision_has_its_case() {
    let own = || vec![reference("1", "web", Some(true))];
    let foreign = || vec![reference("2", "web", Some(true))];
    let plain = || vec![reference("1", "web", None)];
    let (living, dying) = (an_owner("1", false), an_owner("1", true));
    let cases = [
        (&living, an_object("web", own(), false), Claim::Keep),
        (&living, an_object("web", own(), true), Claim::Keep),
        (&dying, an_object("web", own(), false), Claim::Keep),
        (&living, an_object("db", own(), false), Claim::Release),
        (&living, an_object("db", own(), true), Claim::Release),
        (&dying, an_object("db", own(), false), Claim::Ignore),
        (&living, an_object("web", vec![], false), Claim::Adopt),
        (&living, an_object("web", plain(), false), Claim::Adopt),
        (&living, an_object("web", vec![], true), Claim::Ignore),
        (&dying, an_object("web", vec![], false), Claim::Ignore),
        (&living, an_object("db", vec![], false), Claim::Ignore),
        (&living, an_object("web", foreign(), false), Claim::Ignore),
        (&living, an_object("db", foreign(), false), Claim::Ignore),
    ];
    for (owner, object, expected) in cases {
        assert_eq!(claim(owner, &object), expected, "{owner:?}\n{object:?}");
    }
}

#[test]
fn nothing_is_adopted_where_garbage_collection_would_not_find_the_owner() {
    let somewhere = |namespace: Option<&str>| ObjectMeta {
        namespace: namespace.map(str::to_owned),
        ..an_object("web", vec![], false)
    };
    let cluster = ObjectMeta {
        namespace: None,
        ..an_owner("1", false)
    };
    let cases = [
        (an_owner("1", false), Some("ns"), Claim::Adopt),
        (an_owner("1", false), Some("other"), Claim::Ignore),
        (an_owner("1", false), None, Claim::Ignore),
        (cluster.clone(), Some("ns"), Claim::Adopt),
        (cluster, None, Claim::Adopt),
    ];
    for (owner, namespace, expected) in cases {
        assert_eq!(
            claim(&owner, &somewhere(namespace)),
            expected,
            "{owner:?} {namespace:?}"
        );
    }
}

#[test]
fn an_owner_that_would_claim_everything_claims_nothing() {
    let empty = LabelSelector::default();
    let error = Claimant::new(&an_owner("1", false), &empty).map(|_| ());
    assert_eq!(
        error.map_err(|error| error.to_string()),
        Err("the selector of owner \"web\" is empty and would claim every object".to_owned())
    );
    let unread = Claimant::new(&ObjectMeta::default(), &empty).map(|_| ());
    assert_eq!(unread, Err(ClaimError::NoIdentity(String::new())));
}

#[test]
fn before_it_adopts_an_owner_is_looked_up() {
    let (owner, selector) = (an_owner("1", false), selector());
    let claimant = Claimant::new(&owner, &selector).expect("it has a uid");
    let says = |latest: Option<&ObjectMeta>| claimant.may_adopt(latest).map_err(|error| error.to_string());
    assert_eq!(says(Some(&owner)), Ok(()));
    assert_eq!(says(None), Err("owner \"web\" is gone".to_owned()));
    assert_eq!(
        says(Some(&an_owner("2", false))),
        Err("owner \"web\" is gone: got uid \"2\", wanted \"1\"".to_owned())
    );
    assert_eq!(
        says(Some(&an_owner("1", true))),
        Err("owner \"web\" is being deleted".to_owned())
    );
}

#[test]
fn patches_are_these() {
    let owner = reference("1", "web", Some(true));
    let other = reference("2", "job", None);
    let orphan = an_object("web", vec![other.clone()], false);
    let owned = an_object("web", vec![other.clone(), owner.clone()], false);
    let both = json!([other, owner]);
    let cases = [
        (
            owner::adopt_strategic(&owner, &orphan),
            json!({"uid": "object", "ownerReferences": [owner]}),
        ),
        (
            owner::adopt_merge(&owner, &orphan),
            json!({"uid": "object", "resourceVersion": "7", "ownerReferences": both}),
        ),
        (
            owner::release_strategic("1", &owned),
            json!({"uid": "object", "ownerReferences": [{"$patch": "delete", "uid": "1"}]}),
        ),
        (
            owner::release_merge("1", &owned),
            json!({"uid": "object", "resourceVersion": "7", "ownerReferences": [other]}),
        ),
        (
            owner::release_merge("1", &an_object("web", vec![owner.clone()], false)),
            json!({"uid": "object", "resourceVersion": "7", "ownerReferences": null}),
        ),
    ];
    for (patch, metadata) in cases {
        assert_eq!(patch, Ok(json!({ "metadata": metadata })));
    }
}

#[test]
fn a_patch_that_could_do_harm_is_not_made() {
    let owner = reference("1", "web", Some(true));
    let unread = ObjectMeta {
        uid: None,
        ..an_object("web", vec![], false)
    };
    let unversioned = ObjectMeta {
        resource_version: None,
        ..an_object("web", vec![], false)
    };
    let foreign = an_object("web", vec![reference("2", "web", Some(true))], false);
    let nameless = reference("1", "", Some(true));
    let not_read = |missing| OwnerError::NotRead {
        object: "web".to_owned(),
        missing,
    };
    let cases = [
        (owner::adopt_strategic(&owner, &unread), not_read("uid")),
        (owner::adopt_merge(&owner, &unread), not_read("uid")),
        (owner::release_strategic("1", &unread), not_read("uid")),
        (owner::release_merge("1", &unread), not_read("uid")),
        (
            owner::adopt_merge(&owner, &unversioned),
            not_read("resourceVersion"),
        ),
        (
            owner::release_merge("1", &unversioned),
            not_read("resourceVersion"),
        ),
        (
            owner::adopt_merge(&nameless, &unread),
            OwnerError::Incomplete("name"),
        ),
    ];
    for (patch, error) in cases {
        assert_eq!(patch, Err(error));
    }
    for patch in [
        owner::adopt_strategic(&owner, &foreign),
        owner::adopt_merge(&owner, &foreign),
    ] {
        assert!(matches!(patch, Err(OwnerError::AlreadyOwned { .. })), "{patch:?}");
    }
}
