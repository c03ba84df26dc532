//! Makes the objects, clears them away, and looks at what controllers have made.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::sleep;

use crate::site::{self, LABEL, NAME, Site, SiteSpec};
use crate::{Result, within};

pub const NAMESPACES: usize = 100;
/// How many requests are under way at once.
const REQUESTS: usize = 32;

pub fn namespace_of(number: usize) -> String {
    format!("bench-{:03}", number % NAMESPACES)
}

pub fn key_name(number: usize) -> String {
    format!("key-{number:06}")
}

fn site_name(number: usize) -> String {
    format!("site-{number:06}")
}

/// The number in a name.
pub fn number_of(name: &str) -> Option<usize> {
    name.rsplit('-').next()?.parse().ok()
}

/// Creates small ConfigMaps.
pub async fn keys(client: Client, count: usize) -> Result<()> {
    namespaces(&client).await?;
    let one = |number| ConfigMap {
        metadata: named(&namespace_of(number), &key_name(number)),
        data: Some([("number".to_owned(), number.to_string())].into()),
        ..ConfigMap::default()
    };
    create_all(&client, count, one).await?;
    // Those that there are beside these would be reconciled too.
    let there = Api::<PartialObjectMeta<ConfigMap>>::all(client)
        .list_metadata(&ListParams::default())
        .await?;
    if there.items.len() != count {
        return Err(format!("there are {} ConfigMaps instead of {count}", there.items.len()).into());
    }
    Ok(())
}

/// Creates Sites, and their kind.
pub async fn sites(client: Client, count: usize) -> Result<()> {
    namespaces(&client).await?;
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let definition = serde_json::from_value(site::definition())?;
    there_now(definitions.create(&PostParams::default(), &definition).await)?;
    let served = async {
        let sites = Api::<Site>::all(client.clone());
        while sites.list(&ListParams::default().limit(1)).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    within("serving Sites", served).await?;
    let one = |number| Site {
        metadata: named(&namespace_of(number), &site_name(number)),
        spec: SiteSpec {
            html: format!("<h1>Site {number}</h1>"),
            replicas: 2,
        },
        status: None,
    };
    create_all(&client, count, one).await
}

async fn namespaces(client: &Client) -> Result<()> {
    let api = Api::<Namespace>::all(client.clone());
    for number in 0..NAMESPACES {
        let object = serde_json::from_value(json!({"metadata": {"name": namespace_of(number)}}))?;
        there_now(api.create(&PostParams::default(), &object).await)?;
    }
    Ok(())
}

fn named(namespace: &str, name: &str) -> kube::core::ObjectMeta {
    kube::core::ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..kube::core::ObjectMeta::default()
    }
}

async fn create_all<K>(client: &Client, count: usize, object: impl Fn(usize) -> K) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + serde::Serialize,
{
    let one = |number| {
        let api = Api::<K>::namespaced(client.clone(), &namespace_of(number));
        let object = object(number);
        async move { api.create(&PostParams::default(), &object).await.map(drop) }
    };
    let all = stream::iter((0..count).map(one)).buffer_unordered(REQUESTS);
    Ok(all.try_collect::<()>().await?)
}

fn there_now<K>(created: kube::Result<K>) -> Result<()> {
    match created {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        created => Ok(created.map(drop)?),
    }
}

/// Deletes all Sites, and what was made for them.
pub async fn clear(client: Client) -> Result<()> {
    for number in 0..NAMESPACES {
        delete_all::<Site>(&client, number, ListParams::default()).await?;
        delete_all::<ConfigMap>(&client, number, children()).await?;
        delete_all::<Deployment>(&client, number, children()).await?;
    }
    Ok(())
}

async fn delete_all<K>(client: &Client, number: usize, which: ListParams) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), &namespace_of(number));
    api.delete_collection(&DeleteParams::background(), &which).await?;
    Ok(())
}

fn children() -> ListParams {
    ListParams::default().labels(&format!("{LABEL}={NAME}"))
}

/// Fails unless each of so many Sites has its children and its status.
pub async fn check(client: Client, count: usize) -> Result<()> {
    let sites = Api::<Site>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let told = sites.iter().filter(|site| {
        let status = site.status.as_ref();
        status.is_some_and(|status| status.observed_generation == site.metadata.generation)
    });
    let found = [
        ("Sites with a status", told.count()),
        ("ConfigMaps", owned::<ConfigMap>(&client, &sites.items).await?),
        ("Deployments", owned::<Deployment>(&client, &sites.items).await?),
    ];
    for (what, number) in found {
        if number != count {
            return Err(format!("there are {number} {what} instead of {count}").into());
        }
    }
    Ok(())
}

/// How many objects were made for these Sites.
async fn owned<K>(client: &Client, sites: &[Site]) -> Result<usize>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let owners: BTreeMap<_, _> = sites.iter().map(|site| (site.uid(), site.name_any())).collect();
    let objects = Api::<PartialObjectMeta<K>>::all(client.clone())
        .list_metadata(&children())
        .await?;
    let owned = objects.iter().filter(|object| {
        let mut references = object.owner_references().iter();
        references.any(|owner| {
            owner.controller == Some(true) && owners.get(&Some(owner.uid.clone())) == Some(&object.name_any())
        })
    });
    Ok(owned.count())
}

/// Prints how many requests the server has answered, by verb.
pub async fn requests(client: Client) -> Result<()> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let text = client.request_text(request).await?;
    let mut verbs = BTreeMap::<&str, u64>::new();
    for line in text.lines() {
        let Some((labels, value)) = line
            .strip_prefix("apiserver_request_total{")
            .and_then(|rest| rest.rsplit_once("} "))
        else {
            continue;
        };
        let verb = labels.split(',').find_map(|label| label.strip_prefix("verb=\""));
        let verb = verb.map_or("", |verb| verb.trim_end_matches('"'));
        *verbs.entry(verb).or_default() += value.parse::<u64>()?;
    }
    println!("{}", json!(verbs));
    Ok(())
}
