//! The hub and its spokes, and how one object goes from any version to any other.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;
use serde_json::Value;
use trimtab_apimachinery_meta::GroupKind;

use crate::admission::{Reviewed, words_of};
use crate::error::WebhookError;

/// A version of a kind that is converted through the kind's hub.
///
/// Conversions must not fail for objects that the server lets in: nobody could read, change or delete such an object in
/// that version any more; and where admission webhooks are asked in that version, nobody could change it in any. What a version cannot express is kept by [`keep_in_annotation`](crate::keep_in_annotation) and
/// [`restore_from_annotation`](crate::restore_from_annotation).
///
/// Metadata may be passed on or left empty: it is carried over in any case, and only changes of labels and annotations
/// count (*Identity kept*).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not converted through a hub",
    note = "implement `Spoke` for `{Self}`, with `into_hub` and `from_hub`"
)]
pub trait Spoke: Reviewed + Sized {
    /// The version that all others are converted to and from: the one that can express the most.
    type Hub: Reviewed;

    /// This object in the hub's version.
    ///
    /// # Errors
    /// The author's; the API server shows it to whoever wanted the object.
    fn into_hub(self) -> Result<Self::Hub, ConversionError>;

    /// The object in this version.
    ///
    /// # Errors
    /// The author's; the API server shows it to whoever wanted the object.
    fn from_hub(hub: Self::Hub) -> Result<Self, ConversionError>;
}

/// Why an object cannot be expressed in another version. Made of a text, or by [`ConversionError::new`] of any error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConversionError(String);

/// A hub with its spokes: all versions of one kind.
pub struct Conversion<H> {
    /// The hub first.
    versions: Vec<Version<H>>,
}

/// A version, by way of the hub.
struct Version<H> {
    group: String,
    version: String,
    kind: String,
    plural: String,
    into_hub: fn(&Value) -> Result<H, ConversionError>,
    from_hub: fn(H) -> Result<Value, ConversionError>,
}

/// A conversion whose types are forgotten.
pub(crate) trait Converts: Send + Sync {
    /// The kind that it is about.
    fn kind(&self) -> GroupKind;

    /// The name of the kind's CustomResourceDefinition.
    fn definition(&self) -> String;

    /// What is wrong with it.
    fn check(&self) -> Result<(), WebhookError>;

    /// The object in another version of its group.
    fn convert(&self, object: &Value, version: &str) -> Result<Value, Failure>;
}

/// Why an object was not converted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// For this reason.
    Refused(String),
    /// The author's conversion panicked, with these words.
    Panicked(String),
}

// === impl Conversion ===

impl<H: Reviewed> Conversion<H> {
    /// A hub without spokes.
    pub fn hub() -> Self {
        Self {
            versions: vec![Version::new::<H>(decode, |hub| encode(&hub))],
        }
    }

    /// Adds a version. That it is of the hub's kind is checked when webhooks are served or declared.
    #[must_use]
    pub fn spoke<S: Spoke<Hub = H>>(mut self) -> Self {
        self.versions.push(Version::new::<S>(into_hub::<S>, |hub| {
            encode(&from_hub::<S>(hub)?)
        }));
        self
    }

    fn version(&self, name: &str) -> Result<&Version<H>, String> {
        let found = self.versions.iter().find(|version| version.version == name);
        found.ok_or_else(|| {
            let there_are: Vec<&str> = self
                .versions
                .iter()
                .map(|version| version.version.as_str())
                .collect();
            format!("there is no version {name:?}, but {}", there_are.join(", "))
        })
    }

    fn through_hub(&self, object: &Value, from: &str, to: &str) -> Result<Value, String> {
        let (source, target) = (self.version(from)?, self.version(to)?);
        if from == to {
            return Ok(object.clone());
        }
        let hub = (source.into_hub)(object).map_err(|error| error.0)?;
        let mut converted = (target.from_hub)(hub).map_err(|error| error.0)?;
        converted["apiVersion"] = format!("{}/{to}", target.group).into();
        converted["kind"] = target.kind.clone().into();
        let metadata = kept_identity(&object["metadata"], converted["metadata"].take());
        converted["metadata"] = metadata;
        Ok(converted)
    }
}

impl<H: Reviewed> Converts for Conversion<H> {
    fn kind(&self) -> GroupKind {
        let hub = &self.versions[0];
        GroupKind::new(&hub.group, &hub.kind)
    }

    fn definition(&self) -> String {
        let hub = &self.versions[0];
        format!("{}.{}", hub.plural, hub.group)
    }

    fn check(&self) -> Result<(), WebhookError> {
        let hub = &self.versions[0];
        for (place, spoke) in self.versions.iter().enumerate().skip(1) {
            let taken = || {
                self.versions[..place]
                    .iter()
                    .any(|other| other.version == spoke.version)
            };
            let why = if (&spoke.group, &spoke.kind) != (&hub.group, &hub.kind) {
                "it is of another group or kind"
            } else if taken() {
                "its version is there already"
            } else {
                continue;
            };
            return Err(WebhookError::Spoke {
                spoke: spoke.to_string(),
                hub: hub.to_string(),
                why,
            });
        }
        Ok(())
    }

    fn convert(&self, object: &Value, version: &str) -> Result<Value, Failure> {
        let from = object["apiVersion"].as_str().unwrap_or_default();
        let from = from.rsplit_once('/').map_or(from, |(_, version)| version);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let convert = AssertUnwindSafe(|| self.through_hub(object, from, version));
        match catch_unwind(convert) {
            Ok(Ok(converted)) => Ok(converted),
            Ok(Err(why)) => Err(Failure::Refused(format!(
                "{} {name:?} cannot be converted from {from} to {version}: {why}",
                self.kind()
            ))),
            Err(panic) => Err(Failure::Panicked(words_of(panic.as_ref()))),
        }
    }
}

impl<H> fmt::Debug for Conversion<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = self.versions.iter().map(ToString::to_string);
        f.debug_list().entries(versions).finish()
    }
}

// === impl Version ===

impl<H> Version<H> {
    fn new<K: Reviewed>(
        into_hub: fn(&Value) -> Result<H, ConversionError>,
        from_hub: fn(H) -> Result<Value, ConversionError>,
    ) -> Self {
        let kind = K::DynamicType::default();
        Self {
            group: K::group(&kind).into_owned(),
            version: K::version(&kind).into_owned(),
            plural: K::plural(&kind).into_owned(),
            kind: K::kind(&kind).into_owned(),
            into_hub,
            from_hub,
        }
    }
}

impl<H> fmt::Display for Version<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}/{}", self.kind, self.group, self.version)
    }
}

// === impl ConversionError ===

impl ConversionError {
    /// Says what `why` says.
    pub fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl From<String> for ConversionError {
    fn from(why: String) -> Self {
        Self(why)
    }
}

impl From<&str> for ConversionError {
    fn from(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl From<serde_json::Error> for ConversionError {
    fn from(why: serde_json::Error) -> Self {
        Self::new(why)
    }
}

fn into_hub<S: Spoke>(object: &Value) -> Result<S::Hub, ConversionError> {
    up(decode::<S>(object)?)
}

/// A spoke as its hub, with its metadata.
pub(super) fn up<S: Spoke>(spoke: S) -> Result<S::Hub, ConversionError> {
    let metadata = spoke.meta().clone();
    let mut hub = spoke.into_hub()?;
    carry_over(metadata, hub.meta_mut());
    Ok(hub)
}

/// A hub as one of its spokes, with its metadata.
pub(super) fn from_hub<S: Spoke>(hub: S::Hub) -> Result<S, ConversionError> {
    let metadata = hub.meta().clone();
    let mut spoke = S::from_hub(hub)?;
    carry_over(metadata, spoke.meta_mut());
    Ok(spoke)
}

fn decode<K: Reviewed>(object: &Value) -> Result<K, ConversionError> {
    let kind = K::DynamicType::default();
    K::deserialize(object)
        .map_err(|error| ConversionError(format!("it is not a {}: {error}", K::kind(&kind))))
}

fn encode<K: Reviewed>(object: &K) -> Result<Value, ConversionError> {
    Ok(serde_json::to_value(object)?)
}

/// *Identity kept*, between types: whoever passes metadata on may change labels and annotations; whoever does not may
/// add some. The two are told apart by the name and all else that an object has; one that has nothing of it, as only
/// tests make it, counts as passed on.
fn carry_over(from: ObjectMeta, to: &mut ObjectMeta) {
    let (labels, annotations) = (to.labels.take(), to.annotations.take());
    let mut metadata = from;
    let bare = ObjectMeta {
        labels: None,
        annotations: None,
        ..metadata.clone()
    };
    if *to == bare {
        (metadata.labels, metadata.annotations) = (labels, annotations);
    } else {
        for (all, added) in [
            (&mut metadata.labels, labels),
            (&mut metadata.annotations, annotations),
        ] {
            if let Some(added) = added {
                all.get_or_insert_default().extend(added);
            }
        }
    }
    *to = metadata;
}

/// *Identity kept*, as it is written: everything but labels and annotations is as it was sent.
fn kept_identity(sent: &Value, mut converted: Value) -> Value {
    let mut metadata = sent.clone();
    let Value::Object(fields) = &mut metadata else {
        return converted;
    };
    for key in ["labels", "annotations"] {
        match converted.get_mut(key).map(Value::take) {
            Some(value) => fields.insert(key.to_owned(), value),
            None => fields.remove(key),
        };
    }
    metadata
}
