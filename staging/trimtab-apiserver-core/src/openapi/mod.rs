//! OpenAPI: what objects look like, for kubectl's validation and `explain`, and for client generators.
//!
//! Documents are made from the schemas of the resource table when they are first asked for, one for each group and
//! version, and kept until the table changes.

mod document;
mod merge;
pub(crate) mod protobuf;
mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::header::ETAG;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::discovery::hash;
use crate::extensions::{Picture, Served};
use crate::http::respond::{self, Body};
use crate::registry::{ResourceTable, Resources};

/// An encoded document with its hash.
#[derive(Clone, Debug)]
struct Kept {
    bytes: Bytes,
    hash: String,
}

impl Kept {
    fn new(bytes: Bytes) -> Self {
        Self {
            hash: hash(&bytes),
            bytes,
        }
    }
}

/// Documents by path, as `apis/apps/v1`, made from one state of the table.
#[derive(Debug, Default)]
struct Documents {
    of: Option<Arc<Resources>>,
    /// What others serve.
    and: Option<Arc<Picture>>,
    v3: BTreeMap<String, Kept>,
    v2: Option<Kept>,
    v2_protobuf: Option<Kept>,
}

/// Tells what objects look like.
#[derive(Debug)]
pub(crate) struct OpenApi {
    table: Arc<ResourceTable>,
    served: Option<Arc<Served>>,
    documents: Mutex<Documents>,
}

impl OpenApi {
    pub(crate) fn new(table: Arc<ResourceTable>, served: Option<Arc<Served>>) -> Self {
        Self {
            table,
            served,
            documents: Mutex::default(),
        }
    }

    /// `/openapi/v3`: where each document is. The hash in an address changes with the resources behind it.
    pub(crate) fn index(&self, gzip: bool) -> Response<Body> {
        let table = self.table.snapshot();
        let picture = self.picture();
        let mut paths = Map::new();
        for (group, version) in group_versions(&table) {
            if picture
                .as_ref()
                .is_some_and(|p| p.backend(&group, &version).is_some())
            {
                continue;
            }
            let path = path_of(&group, &version);
            let hash = table_hash(&table, &group, &version);
            paths.insert(
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}),
            );
        }
        for (path, (entry, _)) in picture.iter().flat_map(|picture| &picture.openapi) {
            paths.insert(path.clone(), entry.clone());
        }
        let text = json!({ "paths": paths }).to_string();
        respond::encoded(200, "text/plain; charset=utf-8", Bytes::from(text), gzip)
    }

    /// `/openapi/v3/PATH`; `None` when there is no such group and version.
    pub(crate) fn group_version(&self, path: &str, known_etag: &str, gzip: bool) -> Option<Response<Body>> {
        let table = self.table.snapshot();
        let (group, version) = group_versions(&table)
            .into_iter()
            .find(|(g, v)| path_of(g, v) == path)?;
        let document = self.kept(&table, |documents| {
            let make = || keep(&document::v3(&table, &group, &version));
            documents.v3.entry(path.to_owned()).or_insert_with(make).clone()
        });
        Some(answer(&document, known_etag, gzip))
    }

    /// `/openapi/v2`: everything in one document.
    pub(crate) fn v2(&self, known_etag: &str, gzip: bool) -> Response<Body> {
        let table = self.table.snapshot();
        let document = self.kept(&table, |documents| {
            let make = || keep(&v2(&table, documents.and.as_deref()));
            documents.v2.get_or_insert_with(make).clone()
        });
        answer(&document, known_etag, gzip)
    }

    /// `/openapi/v2` in protobuf.
    pub(crate) fn v2_protobuf(&self, known_etag: &str, gzip: bool) -> Response<Body> {
        let table = self.table.snapshot();
        let document = self.kept(&table, |documents| {
            let make = || Kept::new(protobuf::encode(&v2(&table, documents.and.as_deref())).into());
            documents.v2_protobuf.get_or_insert_with(make).clone()
        });
        let mut response = answer(&document, known_etag, gzip);
        if response.status() == http::StatusCode::OK {
            respond::set(&mut response, http::header::CONTENT_TYPE, protobuf::MEDIA_TYPE);
        }
        response
    }

    fn picture(&self) -> Option<Arc<Picture>> {
        self.served.as_ref().map(|served| served.picture())
    }

    /// The documents of this state of the table; those of an older one are forgotten. Of what others serve only the old
    /// documents have anything.
    fn kept(&self, table: &Arc<Resources>, find: impl FnOnce(&mut Documents) -> Kept) -> Kept {
        let mut documents = self.documents.lock();
        let picture = self.picture();
        if documents.and.as_ref().map(Arc::as_ptr) != picture.as_ref().map(Arc::as_ptr) {
            (documents.v2, documents.v2_protobuf) = (None, None);
            documents.and.clone_from(&picture);
        }
        if !documents.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, table)) {
            *documents = Documents {
                of: Some(table.clone()),
                and: picture,
                ..Documents::default()
            };
        }
        find(&mut documents)
    }
}

/// Everything in one document, with what others serve.
fn v2(table: &Resources, picture: Option<&Picture>) -> Value {
    let mut document = document::v2(table);
    for of in picture.iter().flat_map(|picture| &picture.openapi_v2) {
        merge::merge(&mut document, &of.document, &of.below);
    }
    document
}

fn answer(document: &Kept, known_etag: &str, gzip: bool) -> Response<Body> {
    let etag = format!("\"{}\"", document.hash);
    let mut response = if known_etag == etag {
        let mut unchanged = Response::new(respond::full(Bytes::new()));
        *unchanged.status_mut() = http::StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        respond::encoded(200, "application/json", document.bytes.clone(), gzip)
    };
    respond::set(&mut response, ETAG, &etag);
    response
}

fn keep(value: &Value) -> Kept {
    Kept::new(Bytes::from(value.to_string()))
}

fn group_versions(table: &Resources) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = table
        .iter()
        .map(|r| (r.group.clone(), r.version.clone()))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// A hash that changes when a resource of the group and version is added, removed or replaced.
fn table_hash(table: &Resources, group: &str, version: &str) -> String {
    let mut text = env!("CARGO_PKG_VERSION").to_owned();
    for resource in table.iter().filter(|r| r.group == group && r.version == version) {
        text.push_str(&resource.plural);
        if resource.custom {
            // A custom resource's schema may change: its documents are addressed by their content.
            text.push_str(&document::v3(table, group, version).to_string());
            break;
        }
    }
    hash(text.as_bytes())
}
