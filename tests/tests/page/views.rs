//! What each view shows, also where there is nothing to be shown.

use tokio::time::Instant;
use trimtab::controller::introspection::{Introspection, Observed, Timeline};
use trimtab_tests::Browser;
use trimtab_tests::browser::Look;

use crate::site::{Site, walk};
use crate::world::{EVIL, informers, world};

/// These words are to be seen, in this order.
fn assert_in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        let Some(at) = rest.find(word) else {
            panic!("{word:?} is not there, or not in its place:\n{text}");
        };
        rest = &rest[at + word.len()..];
    }
}

#[tokio::test(start_paused = true)]
async fn every_view_shows_what_there_is() {
    let Some(browser) = Browser::new() else { return };
    let world = world().await;
    let views: [(&str, &[&str]); 4] = [
        (
            "#/",
            &[
                "Controllers",
                "4 controllers · 2 in hand · ",
                "Leader election leader shop-operator-6d9f-x2k1q term 14",
                "handing over 3",
                "website running Website.shop.example.com In hand 2",
                "Failing 3",
                "4 workers",
                "no such theme",
                "backup",
                "Later 12",
                "certificate",
                "waiting",
                "Waits for Certificate (the server could not find the requested resource)",
            ],
        ),
        (
            "#/controllers/website",
            &[
                "Controllers website",
                "In hand 2 1 of 4 workers busy",
                "Waiting 131 130 at priority -100",
                "Later 3",
                "Success 62",
                "Success, looks again 1",
                "Conflict 1",
                "Error 4",
                "Terminal error 1",
                "Panic 1",
                "Find a key",
                "In hand 2 team-1/slow reconciling for 3.4 s",
                "attempt 2",
                "comes again after this turn",
                "team-2/shop waiting to see its writes for 1.4 s",
                "Waiting 131 default/blog for 1.4 s Website default/blog updated",
                "priority -100 · resync",
                "92 more",
                "31 keys beyond these",
                "Failing 3",
                "team-5/huge waits for a change Terminal error: spec.replicas: must be at most 50 failed once",
                "team-3/broken tried again in 19 s",
                "Panic: the reconciler panicked: index out of bounds",
                "Later 3",
                "default/hello due in 4 min 59 s",
                "Keys, the latest first",
            ],
        ),
        (
            "#/controllers/website/keys/default%2Fhello",
            &[
                "Controllers website default/hello",
                "Due in 4 min 59 s",
                "Success, looks again attempt 5",
                "waited in the queue",
                "reconciled",
                "until its writes were seen",
                "Why ResourceQuota default/compute updated",
                "Wrote apply ConfigMap default/hello-page version 11902",
                "status written",
                "Next after 5 min at the latest",
                "41 s between",
                "Conflict attempt 4",
                "tried again after 40 ms",
                "Error attempt 3",
                "exceeded quota: compute, requested: limits.memory=4Gi",
                "unchanged, no request",
                "refused: forbidden: exceeded quota",
                "12 min 34 s between",
                "Deployment default/hello updated Service default/hello updated",
                "status was so already",
                "Website default/hello added",
                "These are all turns that are known.",
            ],
        ),
        (
            "#/controllers/website/keys/team-1%2Fslow",
            &[
                "Reconciling for 3.4 s. It comes again after this turn.",
                "Under way attempt 2",
                "reconciling",
                "team-1/slow-page version 12001",
            ],
        ),
    ];
    let hashes: Vec<&str> = views.iter().map(|(hash, _)| *hash).collect();
    for (dark, width) in [(false, 1200), (true, 400)] {
        let look = Look {
            size: (width, 1400),
            dark,
            ..Look::default()
        };
        let shown = walk(&world.shown, world.begun, &browser, &hashes, look).await;
        for (shown, (_, words)) in shown.iter().zip(&views) {
            assert_in_order(&shown.text(), words);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn informers_say_what_they_have_and_what_is_wrong() {
    let Some(browser) = Browser::new() else { return };
    let begun = Instant::now();
    let (shown, env, held) = informers().await;
    let site = Site::start(shown, begun).await;
    for dark in [false, true] {
        let look = Look {
            dark,
            ..Look::default()
        };
        let text = site.open(&browser, "#/informers", look).await.text();
        let words = [
            "Informers",
            "3 informers · ",
            "ConfigMap synced all; without metadata.",
            "Objects 20 Memory",
            "website up to date",
            "Deployment synced namespaces default, shop; labels app",
            "Objects 0 Memory 0 B Events 0 Silent for",
            "of 3 min at most",
            "2 lists · 2 watches",
            "Nobody is told of changes.",
            "Secret unhealthy all; labels this is, no = selector !; all kept decoded as well",
            "Secret are not listed yet: unable to parse requirement",
            "at no version yet",
        ];
        assert_in_order(&text, &words);
    }
    drop((site, held));
    env.shutdown().await.expect("it stops");
}

/// Names and messages are the objects' owners', and are text.
#[tokio::test(start_paused = true)]
async fn texts_are_not_markup() {
    let Some(browser) = Browser::new() else { return };
    let world = world().await;
    let encoded = "default%2F%3Cimg%20src%3Dx%20onerror%3D%22document.title%3D'owned'%22%3E";
    let of_key = format!("#/controllers/website/keys/{encoded}");
    let of_controller = format!("#/controllers/{encoded}");
    let of_nothing = format!("#/{encoded}");
    let hashes = [
        "#/",
        "#/controllers/website",
        "#/controllers/website?search=%3Cimg",
        &of_key,
        &of_controller,
        &of_nothing,
    ];
    let views = walk(&world.shown, world.begun, &browser, &hashes, Look::default()).await;
    for (shown, hash) in views.iter().zip(hashes) {
        assert!(!shown.html.contains("<img src=\"x"), "{hash}: {}", shown.html);
        assert!(
            !shown.html.contains("data-view=\"owned"),
            "{hash}: {}",
            shown.html
        );
        let told = hash != of_nothing;
        // The server's own message has the name in quotes, with those in it escaped.
        let text = shown.text().replace("\\\"", "\"");
        assert_eq!(text.contains(EVIL), told, "{hash}: {text}");
    }
    // And where the browser begins with it.
    let site = Site::start(world.shown.clone(), world.begun).await;
    let shown = site.open(&browser, &of_key, Look::default()).await;
    assert!(
        !shown.html.contains("<img src=\"x") && !shown.html.contains("<title>owned"),
        "{}",
        shown.html
    );
    assert!(shown.text().contains(EVIL), "{}", shown.text());
}

#[tokio::test(start_paused = true)]
async fn where_there_is_nothing_the_page_says_why() {
    let Some(browser) = Browser::new() else { return };
    let none = Introspection::new("program");
    let idle = Introspection::new("program");
    idle.controller(Observed::new("idle", Timeline::new()));
    let of_none: [(&str, &[&str]); 2] = [
        (
            "#/",
            &[
                "Controllers",
                "No controllers yet",
                "as soon as the program describes them",
            ],
        ),
        (
            "#/informers",
            &[
                "No informers yet",
                "when a controller that watches something has begun",
            ],
        ),
    ];
    let of_idle: [(&str, &[&str]); 6] = [
        (
            "#/",
            &[
                "1 controller · 0 in hand · 0 waiting · none failing",
                "idle",
                "quiet",
            ],
        ),
        (
            "#/controllers/idle",
            &[
                "All workers are idle.",
                "No key waits for a worker.",
                "went well.",
                "No key waits for its time.",
                "No key has come up yet.",
            ],
        ),
        (
            "#/controllers/idle?search=x",
            &["Keys with “x”", "No key that waits", "Show all keys"],
        ),
        (
            "#/controllers/idle/keys/default%2Fa",
            &[
                "default/a",
                "Not in the queue.",
                "Nothing is known of this key",
                "It may not exist",
            ],
        ),
        (
            "#/controllers/other",
            &[
                "Not found",
                "there is no controller \"other\"",
                "Show the controllers",
            ],
        ),
        (
            "#/what/is/this%",
            &["Nothing is here", "This address means nothing"],
        ),
    ];
    for (shown, cases) in [(none, &of_none[..]), (idle, &of_idle[..])] {
        let hashes: Vec<&str> = cases.iter().map(|(hash, _)| *hash).collect();
        let views = walk(&shown, Instant::now(), &browser, &hashes, Look::default()).await;
        for (shown, (_, words)) in views.iter().zip(cases) {
            assert_in_order(&shown.text(), words);
        }
    }
}
