//! The controller through everything that goes wrong: how one finds out that it is level-triggered.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use sample_controller::{Website, WebsiteSpec};
use trimtab_testing::World;
use trimtab_testing::perturb::Perturb;

fn site(name: &str) -> Website {
    let spec = WebsiteSpec {
        html: "<h1>Hello</h1>".to_owned(),
        replicas: 1,
        host: None,
    };
    Website::new(name, spec)
}

fn is_published(world: &World) -> bool {
    world.get::<Service>("default", "hello").is_some() && world.count::<Deployment>() == 1
}

fn shows(html: &'static str) -> impl Fn(&World) -> bool {
    move |world| {
        let page = world.get::<ConfigMap>("default", "hello");
        let shown = page.and_then(|page| page.data?.get("index.html").cloned());
        shown.is_some_and(|shown| shown == html)
    }
}

#[test]
fn websites_are_level_triggered() {
    Perturb::new(sample_controller::run)
        .crd::<Website>()
        .scenario(|users| {
            users
                .create(site("hello"))
                .until("it is published", is_published)
                .edit::<Website>("hello", |site| site.spec.html = "<h1>New</h1>".to_owned())
                .until("it shows the new page", shows("<h1>New</h1>"))
                .delete::<Service>("hello")
                .until("it is published again", is_published)
                .delete::<Website>("hello")
                .until("nothing is left", |world| {
                    world.count::<Website>() == 0
                        && world.count::<ConfigMap>() == 0
                        && world.count::<Deployment>() == 0
                })
        })
        .always("one of each at most", |world| {
            world.count::<Deployment>() <= 1 && world.list::<Service>().len() <= 2
        })
        .check();
}
