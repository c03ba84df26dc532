//! One state of an object, as the cache keeps it, and how it comes into being.
//!
//! By default objects stay encoded ([`Form::Compact`]): what identifies them is read where it lies, and the object as a
//! value of its type is made when somebody asks for it.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use kube::core::ObjectMeta;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trimtab_apimachinery_meta::ObjectKey;

use crate::Object;
use crate::compact::Document;
use crate::compact::encode::{Encoder, TypeMeta};
use crate::compact::read::Reader;
use crate::projection::Projection;

mod any;
mod derived;

pub use any::AnyObject;
use any::Common;
pub use derived::Belonging;
use derived::Derived;

/// In which form the objects of a cache are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// Encoded: a fraction of the memory of any other form, at the cost of decoding an object when it is looked at. What
    /// objects have in common is kept once.
    Compact {
        /// How many objects that were looked at are kept decoded, so that looking again costs a pointer; rounded up to a
        /// power of two. 0 for none.
        hot: usize,
    },
    /// Encoded and decoded: looking at an object always costs a pointer. For few objects that are looked at all the time.
    Typed,
}

/// How many decoded objects a compact cache keeps unless told otherwise.
const HOT: usize = 64;

impl Default for Form {
    /// Compact, with 64 hot objects.
    fn default() -> Self {
        Self::Compact { hot: HOT }
    }
}

/// One state of an object, as the cache keeps it. Clones are pointers to the same.
///
/// What identifies the object is at hand; the object itself is what [`Cached::decode`] gives.
pub struct Cached<K>(Arc<Entry>, PhantomData<fn() -> K>);

/// The type of objects where it makes no difference. What keeps objects and passes them on knows them as this, so that its
/// code is there once, and not for each kind.
pub(crate) enum Untyped {}

struct Entry {
    key: Arc<ObjectKey>,
    document: Document,
    decoded: Option<Decoded>,
    /// What was made of this state, of one type each.
    derived: Derived,
    /// No other state of any object of this origin has this number.
    number: u64,
    origin: Arc<Origin>,
}

/// An object as a value of its type.
type Decoded = Arc<dyn Any + Send + Sync>;

/// What the objects of one cache have in common.
struct Origin {
    common: Common,
    hot: Hot,
}

/// Counts the objects that were found not to be of their type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Undecodables(Arc<AtomicU64>);

impl Undecodables {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An object that does not decode as the type that it was asked for as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {key} cannot be decoded: {why}")]
pub struct Undecodable {
    /// The kind that was asked for.
    pub kind: String,
    /// The object.
    pub key: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// The resource version that cannot be decoded.
    pub resource_version: String,
    /// What is wrong.
    pub why: String,
}

/// Makes [`Cached`] objects of one cache. An informer has its own; this is for feeding a store from elsewhere.
pub struct Codec<K>(pub(crate) Maker, PhantomData<fn() -> K>);

/// A codec of objects of whatever type.
pub(crate) struct Maker {
    encoder: Encoder,
    origin: Arc<Origin>,
    projection: Projection,
    /// How objects are decoded, if they are at once.
    decode: Option<fn(Reader<'_>) -> Result<Decoded, serde_json::Error>>,
    next: u64,
    /// What the items of a list are, for types that must be told: a list says it once for all of its items.
    item_type: Option<TypeMeta>,
}

/// Why a text is no object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoObject {
    /// It is no JSON, or it has no name.
    #[error("{0}")]
    Malformed(String),
    /// It is an object, but not one of the type.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
}

// === impl Cached ===

impl<K> Clone for Cached<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<K> fmt::Debug for Cached<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.any().fmt(f)
    }
}

impl<K> Cached<K> {
    fn new(entry: Entry) -> Self {
        Self(Arc::new(entry), PhantomData)
    }

    /// The same state, as one of a `T`, which is looked at when it is decoded.
    pub(crate) fn cast<T>(self) -> Cached<T> {
        Cached(self.0, PhantomData)
    }

    /// What the object has in common with all others, whatever its type.
    pub fn any(&self) -> AnyObject<'_> {
        let Entry {
            key,
            document,
            origin,
            ..
        } = &*self.0;
        AnyObject {
            key,
            document,
            common: &origin.common,
        }
    }

    /// The object's namespace and name, empty where it has none.
    pub fn key(&self) -> &ObjectKey {
        &self.0.key
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        &self.0.key.name
    }

    /// The object's namespace; empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        &self.0.key.namespace
    }

    /// The object's UID; empty if it has none.
    pub fn uid(&self) -> Cow<'_, str> {
        self.any().uid()
    }

    /// The resource version of this state; empty if it has none.
    pub fn resource_version(&self) -> Cow<'_, str> {
        self.any().resource_version()
    }

    /// The generation, for objects that have one.
    pub fn generation(&self) -> Option<i64> {
        self.any().generation()
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<Cow<'_, str>> {
        self.any().label(name)
    }

    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<Cow<'_, str>> {
        self.any().annotation(name)
    }

    /// Whether the object is being deleted, and waits for its finalizers.
    pub fn is_deleting(&self) -> bool {
        self.any().is_deleting()
    }

    /// The UIDs of the object's owners.
    pub fn owner_uids(&self) -> Vec<Cow<'_, str>> {
        self.any().owner_uids()
    }

    /// The string at a path of names of fields and places in arrays, such as `["spec", "nodeName"]`. Nothing is decoded
    /// for it. `None` if there is no string.
    pub fn text<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> Option<Cow<'_, str>> {
        self.any().text(path)
    }

    /// The object as JSON, as the server sent it: with the same fields in the same order.
    pub fn to_json(&self) -> String {
        self.any().to_json()
    }

    /// Bytes that this state takes, without what it shares with others.
    pub fn size(&self) -> usize {
        let document = &self.0.document;
        size_of::<Entry>() + document.bytes.len() + size_of_val(&*document.shared)
    }

    /// Whether both are the same state of the same object in the same cache.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether both are states of one object, and not of two that had the same name after each other.
    pub fn is_same_object(&self, other: &Self) -> bool {
        self.uid() == other.uid()
    }

    pub(crate) fn shared_key(&self) -> &Arc<ObjectKey> {
        &self.0.key
    }

    /// Takes the key from an earlier state, so that it is in memory once.
    pub(crate) fn share_key(&mut self, key: &Arc<ObjectKey>) {
        if let Some(entry) = Arc::get_mut(&mut self.0) {
            entry.key = key.clone();
        }
    }

    fn reader(&self) -> Reader<'_> {
        self.any().reader()
    }

    /// Reads a part of the object, at a path as of [`Cached::text`], without decoding the rest. `None` if there is
    /// nothing.
    ///
    /// # Errors
    /// [`Undecodable`]: what is there is no `T`.
    pub fn read<'p, T: DeserializeOwned>(
        &self,
        path: impl IntoIterator<Item = &'p str>,
    ) -> Result<Option<T>, Undecodable> {
        self.any().read(path)
    }

    /// Whether this and another state have the same at a path as of [`Cached::text`]. Nothing is decoded for it.
    pub fn has_same<'p>(&self, other: &Self, path: impl IntoIterator<Item = &'p str> + Clone) -> bool {
        self.any().has_same(other.any(), path)
    }

    /// The object's metadata, without decoding the rest.
    ///
    /// # Errors
    /// [`Undecodable`]: it is not what metadata looks like.
    pub fn meta(&self) -> Result<ObjectMeta, Undecodable> {
        self.any().meta()
    }
}

impl<K: Object> Cached<K> {
    /// The object. Who asks again soon, or at the same time, gets the same one.
    ///
    /// # Errors
    /// [`Undecodable`]: it is not of the type. The error is logged and counted. Once the object has changed, it is tried
    /// again.
    pub fn decode(&self) -> Result<Arc<K>, Undecodable> {
        if let Some(decoded) = self.decoded() {
            return Ok(decoded);
        }
        let decoded = self.decode_from(self.reader())?;
        self.0.origin.hot.put(self.0.number, decoded.clone());
        Ok(decoded)
    }

    /// The object; what is decoded for this is not kept, so that walks over all objects leave the hot ones alone.
    ///
    /// # Errors
    /// As of [`Cached::decode`].
    pub fn decode_once(&self) -> Result<Arc<K>, Undecodable> {
        self.decoded().map_or_else(|| self.decode_from(self.reader()), Ok)
    }

    /// The object without its managed fields, which are most of what there is to decode of a small object; with them in
    /// [`Form::Typed`], where there is nothing left to decode. Not kept for who asks again.
    ///
    /// # Errors
    /// As of [`Cached::decode`].
    pub fn decode_unmanaged(&self) -> Result<Arc<K>, Undecodable> {
        let decoded = self.0.decoded.clone().and_then(of_type);
        decoded.map_or_else(|| self.decode_from(self.reader().unmanaged()), Ok)
    }

    /// The object, if it is decoded already.
    fn decoded(&self) -> Option<Arc<K>> {
        let Entry {
            decoded,
            number,
            origin,
            ..
        } = &*self.0;
        let decoded = decoded.clone().or_else(|| origin.hot.get(*number));
        decoded.and_then(of_type)
    }

    fn decode_from(&self, mut reader: Reader<'_>) -> Result<Arc<K>, Undecodable> {
        match K::deserialize(&mut reader) {
            Ok(object) => Ok(Arc::new(object)),
            Err(why) => Err(self.any().reported(&why)),
        }
    }
}

/// All of one cache are of one type.
fn of_type<K: Object>(decoded: Decoded) -> Option<Arc<K>> {
    decoded.downcast().ok()
}

// === impl Codec ===

impl<K: Object> Codec<K> {
    /// A codec of objects of this kind, in this form, of which all is kept.
    pub fn new(kind: &K::DynamicType, form: Form) -> Self {
        Self::with_projection(
            kind,
            Projection {
                form,
                ..Projection::default()
            },
        )
    }

    pub(crate) fn with_projection(kind: &K::DynamicType, projection: Projection) -> Self {
        let knows_its_type =
            std::any::TypeId::of::<K::DynamicType>() == std::any::TypeId::of::<()>() || K::metadata_api();
        let type_meta = TypeMeta {
            api_version: K::api_version(kind).into_owned(),
            kind: K::kind(kind).into_owned(),
        };
        fn decode<K: Object>(mut reader: Reader<'_>) -> Result<Decoded, serde_json::Error> {
            Ok(Arc::new(K::deserialize(&mut reader)?))
        }
        let maker = Maker::new(type_meta, knows_its_type, projection, decode::<K>);
        Self(maker, PhantomData)
    }

    /// The object that a JSON text says.
    ///
    /// # Errors
    /// See [`NoObject`]. In the compact form nothing is undecodable yet: the type is looked at when somebody does.
    pub fn encode_json(&mut self, text: &[u8]) -> Result<Cached<K>, NoObject> {
        self.0.make(text, false).map(Cached::cast)
    }

    /// This object.
    ///
    /// # Errors
    /// See [`NoObject`]: it cannot be written as JSON, or has no name.
    pub fn encode_object(&mut self, object: &K) -> Result<Cached<K>, NoObject>
    where
        K: Serialize,
    {
        let text = serde_json::to_vec(object).map_err(|error| NoObject::Malformed(error.to_string()))?;
        self.encode_json(&text)
    }
}

impl<K> fmt::Debug for Codec<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec")
            .field("kind", &self.0.origin.common.kind)
            .field("projection", &self.0.projection)
            .finish_non_exhaustive()
    }
}

impl Maker {
    fn new(
        type_meta: TypeMeta,
        knows_its_type: bool,
        projection: Projection,
        decode: fn(Reader<'_>) -> Result<Decoded, serde_json::Error>,
    ) -> Self {
        let encoder = Encoder::new(projection.drops());
        let (hot, decode) = match projection.form {
            Form::Compact { hot } => (hot, None),
            Form::Typed => (0, Some(decode)),
        };
        let origin = Origin {
            common: Common {
                kind: type_meta.kind.clone(),
                words: encoder.words().clone(),
                undecodable: Undecodables::default(),
            },
            hot: Hot::new(hot),
        };
        Self {
            encoder,
            origin: Arc::new(origin),
            projection,
            decode,
            next: 0,
            item_type: (!knows_its_type).then_some(type_meta),
        }
    }

    pub(crate) fn undecodables(&self) -> Undecodables {
        self.origin.common.undecodable.clone()
    }

    /// The object that a JSON text says; `item` if it is one of a list, which may leave out what it is.
    pub(crate) fn make(&mut self, text: &[u8], item: bool) -> Result<Cached<Untyped>, NoObject> {
        let malformed = |error: serde_json::Error| NoObject::Malformed(error.to_string());
        let type_meta = self.item_type.as_ref().filter(|_| item);
        let (document, transformed) = match &self.projection.transform {
            None => (self.encoder.encode(text, type_meta).map_err(malformed)?, Ok(())),
            Some(transform) => {
                let before: serde_json::Value = serde_json::from_slice(text).map_err(malformed)?;
                let mut value = before.clone();
                let transformed = catch_unwind(AssertUnwindSafe(|| transform.apply(&mut value)));
                keep_identity(&before, &mut value);
                let text = value.to_string();
                let document = self
                    .encoder
                    .encode(text.as_bytes(), type_meta)
                    .map_err(malformed)?;
                (document, transformed)
            }
        };
        let reader = Reader::new(&document, &self.origin.common.words);
        let named = |field| {
            let found = reader.clone().find(["metadata", field]).ok().flatten();
            found.and_then(Reader::text).unwrap_or_default().into_owned()
        };
        let key = ObjectKey {
            namespace: named("namespace"),
            name: named("name"),
        };
        if key.name.is_empty() {
            return Err(NoObject::Malformed("an object without a name".into()));
        }
        self.next += 1;
        let mut entry = Entry {
            key: Arc::new(key),
            document,
            decoded: None,
            derived: Derived::default(),
            number: self.next,
            origin: self.origin.clone(),
        };
        let undecodable = |entry, why| NoObject::from(Cached::<Untyped>::new(entry).any().undecodable(&why));
        if transformed.is_err() {
            return Err(undecodable(
                entry,
                serde::de::Error::custom("its transform panicked"),
            ));
        }
        if let Some(decode) = self.decode {
            match decode(Reader::new(&entry.document, &self.origin.common.words)) {
                Ok(decoded) => entry.decoded = Some(decoded),
                Err(why) => return Err(undecodable(entry, why)),
            }
        }
        Ok(Cached::new(entry))
    }
}

/// Puts back what identifies an object.
fn keep_identity(before: &serde_json::Value, after: &mut serde_json::Value) {
    if !after["metadata"].is_object() {
        *after = before.clone();
    }
    for field in crate::projection::IDENTITY {
        match before["metadata"].get(field) {
            Some(value) => after["metadata"][field] = value.clone(),
            None => drop(
                after["metadata"]
                    .as_object_mut()
                    .and_then(|meta| meta.remove(field)),
            ),
        }
    }
}

// === Hot ===

/// The objects that were decoded last, as many as there are places. Each has one place where it can be, and who comes to
/// be there takes it.
struct Hot {
    places: usize,
    kept: OnceLock<Box<[Place]>>,
}

type Place = Mutex<Option<(u64, Decoded)>>;

impl Hot {
    fn new(least: usize) -> Self {
        Self {
            places: if least == 0 { 0 } else { least.next_power_of_two() },
            kept: OnceLock::new(),
        }
    }

    fn place(&self, number: u64) -> Option<&Place> {
        let kept = self.kept.get()?;
        // Numbers are given in turn: as many states as there are places, made one after the other, all have their own.
        let at = usize::try_from(number).unwrap_or_default() & kept.len().checked_sub(1)?;
        kept.get(at)
    }

    fn get(&self, number: u64) -> Option<Decoded> {
        let place = self.place(number)?.lock();
        place
            .as_ref()
            .filter(|(other, _)| *other == number)
            .map(|(_, object)| object.clone())
    }

    fn put(&self, number: u64, object: Decoded) {
        self.kept
            .get_or_init(|| (0..self.places).map(|_| Mutex::new(None)).collect());
        if let Some(place) = self.place(number) {
            let before = place.lock().replace((number, object));
            drop(before);
        }
    }
}
