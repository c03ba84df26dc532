//! The kind under test, in three versions: `v1` is the hub.

use kube::CustomResource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use crate::{
    ConversionError, Defaulter, DeletionValidator, Refusal, Request, Spoke, Validator, keep_in_annotation,
    restore_from_annotation,
};

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "Website",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
pub(crate) struct WebsiteSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    #[serde(default)]
    pub(crate) text: String,
    /// Filled in when it is read.
    #[serde(default = "white")]
    pub(crate) color: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replicas: Option<i32>,
    #[serde(default)]
    pub(crate) pages: Vec<Page>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct Page {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) text: String,
}

pub(crate) fn white() -> String {
    "white".to_owned()
}

/// A website as a user sends it, with the given spec.
pub(crate) fn website(version: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("example.com/{version}"), "kind": "Website",
        "metadata": {"name": "a", "namespace": "web", "uid": "u", "creationTimestamp": null, "new": {"in": "meta"}},
        "spec": spec,
    })
}

/// One replica and a host, when there is none.
pub(crate) struct Defaults;

impl Defaulter<Website> for Defaults {
    async fn default(&self, site: &mut Website, request: &Request) -> Result<(), Refusal> {
        tokio::task::yield_now().await;
        site.spec.replicas.get_or_insert(1);
        if site.spec.host.is_none() {
            site.spec.host = Some(format!("{}.example.com", request.name));
        }
        for page in &mut site.spec.pages {
            if page.text.is_empty() {
                page.text = format!("under construction: {}", page.name);
            }
        }
        Ok(())
    }
}

/// Does what the text says.
pub(crate) struct Rules;

impl Validator<Website> for Rules {
    async fn create(&self, site: &Website, request: &Request) -> Result<(), Refusal> {
        request.warn(format!("dry run: {}", request.dry_run));
        match site.spec.text.as_str() {
            "forbidden" => Err("such texts are not wanted".into()),
            "failed" => Err(Refusal::failed("the list of texts is gone")),
            "taken" => Err(trimtab_apimachinery_meta::ApiError::new(
                409,
                trimtab_apimachinery_meta::StatusReason::Conflict,
                "another website has it",
            )
            .into()),
            "panic" => panic!("a secret"),
            _ => {
                request.annotate("text", "fine");
                let path = FieldPath::new("spec").child("replicas");
                let negative = site.spec.replicas.filter(|replicas| *replicas < 0);
                let errors =
                    negative.map(|replicas| FieldError::invalid(&path, replicas, "must be positive"));
                Refusal::unless_none(errors.into_iter().collect())
            }
        }
    }

    async fn update(&self, old: &Website, new: &Website, request: &Request) -> Result<(), Refusal> {
        if request.is_deleting() {
            return Ok(());
        }
        if old.spec.host != new.spec.host {
            return Err(FieldError::forbidden(&FieldPath::new("spec.host"), "stays").into());
        }
        self.create(new, request).await
    }
}

impl DeletionValidator<Website> for Rules {
    async fn delete(&self, site: &Website, _: &Request) -> Result<(), Refusal> {
        match site.spec.text.as_str() {
            "forbidden" => Err("it is loved".to_owned().into()),
            _ => Ok(()),
        }
    }
}

/// The first version: it has no color, which is kept in an annotation, and calls the text `html`.
pub(crate) mod v1beta1 {
    use super::*;

    #[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
    #[kube(
        group = "example.com",
        version = "v1beta1",
        kind = "Website",
        namespaced,
        schema = "disabled",
        derive = "PartialEq"
    )]
    pub(crate) struct WebsiteSpec {
        #[serde(default)]
        pub(crate) html: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub(crate) replicas: Option<i32>,
    }

    const REST: &str = "websites.example.com/rest";

    impl Spoke for Website {
        type Hub = super::Website;

        fn into_hub(mut self) -> Result<super::Website, ConversionError> {
            let rest: Option<(Option<String>, String, Vec<Page>)> =
                restore_from_annotation(&mut self.metadata, REST);
            let (host, color, pages) = rest.unwrap_or_else(|| (None, white(), Vec::new()));
            if self.spec.html == "error" {
                return Err("it says error".into());
            }
            assert_ne!(self.spec.html, "panic", "a secret");
            Ok(super::Website {
                metadata: self.metadata,
                spec: super::WebsiteSpec {
                    host,
                    text: self.spec.html,
                    color,
                    replicas: self.spec.replicas,
                    pages,
                },
            })
        }

        fn from_hub(mut hub: super::Website) -> Result<Self, ConversionError> {
            let super::WebsiteSpec {
                host,
                text,
                color,
                replicas,
                pages,
            } = hub.spec;
            let usual = (None, white(), Vec::new());
            let rest = (host, color, pages);
            if rest != usual {
                keep_in_annotation(&mut hub.metadata, REST, &rest)?;
            }
            Ok(Self {
                metadata: hub.metadata,
                spec: WebsiteSpec { html: text, replicas },
            })
        }
    }
}

/// A careless version: it forgets metadata, or makes it up, and loses the color.
pub(crate) mod v1alpha1 {
    use super::*;

    #[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
    #[kube(
        group = "example.com",
        version = "v1alpha1",
        kind = "Website",
        namespaced,
        schema = "disabled",
        derive = "PartialEq"
    )]
    pub(crate) struct WebsiteSpec {
        #[serde(default)]
        pub(crate) text: String,
    }

    impl Spoke for Website {
        type Hub = super::Website;

        fn into_hub(self) -> Result<super::Website, ConversionError> {
            Ok(super::Website {
                metadata: ObjectMeta::default(),
                spec: super::WebsiteSpec {
                    text: self.spec.text,
                    color: white(),
                    ..super::WebsiteSpec::default()
                },
            })
        }

        fn from_hub(hub: super::Website) -> Result<Self, ConversionError> {
            let mut site = Self::new("made-up", WebsiteSpec { text: hub.spec.text });
            site.metadata.labels = Some([("careless".to_owned(), "yes".to_owned())].into());
            Ok(site)
        }
    }
}

/// Another kind, which cannot be a spoke of websites.
pub(crate) mod strange {
    use super::*;

    #[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
    #[kube(
        group = "example.com",
        version = "v2",
        kind = "Webpage",
        namespaced,
        schema = "disabled"
    )]
    pub(crate) struct WebpageSpec {}

    impl Spoke for Webpage {
        type Hub = super::Website;

        fn into_hub(self) -> Result<super::Website, ConversionError> {
            Err("never".into())
        }

        fn from_hub(_: super::Website) -> Result<Self, ConversionError> {
            Err("never".into())
        }
    }
}
