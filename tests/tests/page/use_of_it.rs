//! That the page follows what happens, says when it cannot, and can be used by everybody.

use std::sync::Arc;

use trimtab::controller::introspection::{Occasion, Outcome};
use trimtab_tests::Browser;
use trimtab_tests::browser::{Look, Shown};

use crate::site::{Before, LONG, Site, wall};
use crate::world::{World, world};

/// What a script has left in the document for the test.
fn said(shown: &Shown) -> &str {
    let said = shown.html.split("data-said=\"").nth(1);
    said.and_then(|rest| rest.split('"').next())
        .unwrap_or_else(|| panic!("the script said nothing:\n{}\n{}", shown.html, shown.log))
}

async fn site(world: &World, script: Option<&str>, before: Option<Before>) -> Site {
    let script = script.map(str::to_owned);
    Site::with(world.shown.clone(), world.begun, script, before).await
}

/// A turn is seen when it ends, and so is how many there are in a second.
#[tokio::test(start_paused = true)]
async fn it_follows_what_happens() {
    let Some(browser) = Browser::new() else { return };
    let world = world().await;
    let (websites, begun) = (world.websites.clone(), world.begun);
    let before: Before = Arc::new(move |_, asked| {
        if asked > 0 {
            let occasion = Occasion::new(wall(begun)).because("Website default/hello deleted");
            websites.begin("default/hello", occasion).end(Outcome::Success);
        }
        true
    });
    let site = site(&world, None, Some(before)).await;
    let shown = site.open(&browser, "", Look::default()).await;
    assert!(site.asked() > 2, "asked {} times", site.asked());
    let text = shown.text();
    let pace = text.split("4 workers ").nth(1).unwrap_or_default();
    assert!(
        pace.starts_with(|of: char| of.is_ascii_digit()),
        "turns in a second: {text}"
    );
    let hash = "#/controllers/website/keys/default%2Fhello";
    let shown = site.open(&browser, hash, Look::default()).await;
    assert!(
        shown.text().contains("Website default/hello deleted"),
        "{}",
        shown.text()
    );
}

/// What was seen last stays, and the page says how old it is; when the answers come again, so does life.
#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_said_until_it_is_back() {
    let Some(browser) = Browser::new() else { return };
    let world = world().await;
    for (lost, words, not) in [
        (2..usize::MAX, "Connection lost shown is what was", "Live"),
        (2..4, "Live", "Connection lost"),
    ] {
        let before: Before = Arc::new(move |_, asked| !lost.contains(&asked));
        let site = site(&world, None, Some(before)).await;
        let shown = site.open(&browser, "", long()).await;
        let text = shown.text();
        assert!(text.contains(words) && !text.contains(not), "{text}");
        assert!(text.contains("website"), "what was seen stays: {text}");
        assert_eq!(
            shown.html.contains("class=\"stale\""),
            not == "Live",
            "{}",
            shown.html
        );
    }
    let never: Before = Arc::new(|_, _| false);
    let site = site(&world, None, Some(never)).await;
    let text = site.open(&browser, "", Look::default()).await.text();
    assert!(
        text.contains("Connection lost") && text.contains("Loading…"),
        "{text}"
    );
}

fn long() -> Look {
    Look {
        run: LONG,
        ..Look::default()
    }
}

/// A page that nobody sees asks for nothing, and one that was paused neither; one that is seen again goes on.
#[tokio::test(start_paused = true)]
async fn it_asks_only_while_somebody_looks() {
    let Some(browser) = Browser::new() else { return };
    const HIDDEN: &str = "Object.defineProperty(document, 'hidden', { get: () => true });";
    const HIDDEN_AT_FIRST: &str = "
        let hidden = true;
        Object.defineProperty(document, 'hidden', { get: () => hidden });
        setTimeout(() => {
            hidden = false;
            document.dispatchEvent(new Event('visibilitychange'));
        }, 3000);
    ";
    const PAUSED: &str = "
        const button = () => document.querySelector('button[aria-pressed]');
        when(() => document.querySelector('.cards'), () => {
            button().click();
            say(`${button().textContent} ${button().ariaPressed}`);
        });
    ";
    let world = world().await;
    let hidden = site(&world, Some(HIDDEN), None).await;
    let text = hidden.open(&browser, "", long()).await.text();
    assert_eq!(hidden.asked(), 0, "{text}");

    let later = site(&world, Some(HIDDEN_AT_FIRST), None).await;
    let text = later.open(&browser, "", long()).await.text();
    assert!(later.asked() > 0 && text.contains("Live"), "{text}");

    let paused = site(&world, Some(PAUSED), None).await;
    let shown = paused.open(&browser, "", long()).await;
    assert_eq!(said(&shown), "Resume true");
    assert_eq!(paused.asked(), 1);
    assert!(shown.text().contains("Paused"), "{}", shown.text());
}

/// Somebody types: the address changes, the keys are those that were asked for, and the field keeps focus and text while
/// the page is drawn anew.
#[tokio::test(start_paused = true)]
async fn a_search_is_typed_and_can_be_shared() {
    let Some(browser) = Browser::new() else { return };
    const TYPED: &str = "
        const field = () => document.getElementById('search');
        when(field, () => {
            const typed = field();
            typed.focus();
            typed.value = 'SITE-1';
            typed.dispatchEvent(new Event('input', { bubbles: true }));
            later(() => later(() => {
                const same = document.activeElement === typed && typed === field();
                say(`${same} ${typed.value} ${location.hash}`);
            }));
        });
    ";
    let world = world().await;
    let words = "Keys with “SITE-1” 40";
    let typed = site(&world, Some(TYPED), None).await;
    let shown = typed.open(&browser, "#/controllers/website", long()).await;
    assert_eq!(said(&shown), "true SITE-1 #/controllers/website?search=SITE-1");
    assert!(shown.text().contains(words), "{}", shown.text());

    let shared = site(&world, None, None).await;
    let shown = shared
        .open(&browser, "#/controllers/website?search=SITE-1", long())
        .await;
    assert!(shown.text().contains(words), "{}", shown.text());
}

/// By keyboard: the first stop skips the navigation, links lead from view to view, and focus goes to the new view's heading.
#[tokio::test(start_paused = true)]
async fn a_keyboard_is_enough() {
    let Some(browser) = Browser::new() else { return };
    const WALK: &str = "
        const steps = [];
        const note = (text) => {
            steps.push(text);
            say(steps.join(' | '));
        };
        const focus = () => `${document.activeElement.tagName} ${document.activeElement.textContent}`;
        const view = (selector, then) => later(() => when(() => document.querySelector(selector), then));
        when(() => document.querySelector('.cards'), () => {
            const first = document.querySelector('a[href], button, input, [tabindex=\"0\"]');
            first.focus();
            note(first.textContent);
            first.click();
            note(document.activeElement.id);
            document.querySelector('main a[href=\"#/controllers/website\"]').click();
            view('#failing-title', () => {
                note(focus());
                document.querySelector('#failing-title').parentElement.querySelector('a').click();
                view('.timeline', () => {
                    note(focus());
                    history.back();
                    view('#failing-title', () => note(focus()));
                });
            });
        });
    ";
    let world = world().await;
    let site = site(&world, Some(WALK), None).await;
    let shown = site.open(&browser, "", long()).await;
    let steps: Vec<&str> = said(&shown).split(" | ").collect();
    assert_eq!(steps[..3], ["Skip to the content", "main", "H1 website"]);
    assert!(steps[3].starts_with("H1 default/"), "{steps:?}");
    assert_eq!(steps[4..], ["H1 website"]);
}

/// Nothing is wider than the window, everything that can be used has a name, and the order of headings is sound, in every
/// view, on a telephone and on a screen.
#[tokio::test(start_paused = true)]
async fn every_view_fits_and_is_named() {
    let Some(browser) = Browser::new() else { return };
    const CHECK: &str = "
        const wrong = [];
        const check = (view) => {
            const say = (text) => wrong.push(`${view}: ${text}`);
            const wide = document.documentElement.scrollWidth - innerWidth;
            if (wide > 0) {
                say(`wider by ${wide}`);
                for (const one of document.querySelectorAll('main *')) {
                    if (one.getBoundingClientRect().right > innerWidth) say(`${one.tagName} ${one.className}`);
                }
            }
            if (document.querySelectorAll('h1').length !== 1) say('not one h1');
            if (!document.documentElement.lang || !document.title) say('no language or title');
            for (const one of document.querySelectorAll('a, button, input, summary')) {
                const labels = [...(one.labels ?? [])].map((label) => label.textContent).join();
                if (!(one.textContent.trim() || one.ariaLabel || labels)) say(`no name: ${one.tagName} ${one.className}`);
            }
            const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
            if (new Set(ids).size !== ids.length) say('an id twice');
            for (const one of document.querySelectorAll('[aria-labelledby]')) {
                if (!document.getElementById(one.getAttribute('aria-labelledby'))) say('a label is missing');
            }
            for (const one of document.querySelectorAll('svg')) {
                if (!one.closest('[aria-hidden]')) say('a drawing without words');
            }
        };
        const views = [
            '#/',
            '#/controllers/website',
            '#/controllers/website?search=hello',
            '#/controllers/website/keys/default%2Fhello',
            '#/informers',
            '#/nonsense',
        ];
        const walk = ([view, ...rest]) => {
            if (view === undefined) return say(`${innerWidth}: ${wrong.join(', ')}`);
            location.hash = view;
            later(() => when(loaded, () => {
                document.querySelectorAll('details').forEach((one) => (one.open = true));
                check(view);
                walk(rest);
            }));
        };
        when(loaded, () => walk(views));
    ";
    let world = world().await;
    let site = site(&world, Some(CHECK), None).await;
    for width in [400, 1200] {
        let look = Look {
            size: (width, 900),
            ..long()
        };
        let shown = site.open(&browser, "", look).await;
        assert_eq!(said(&shown), format!("{width}: "));
    }
}

/// The page is light or dark as the reader likes it.
#[tokio::test(start_paused = true)]
async fn it_is_as_light_as_the_reader_likes() {
    let Some(browser) = Browser::new() else { return };
    const GROUND: &str = "
        when(loaded, () => {
            const colour = getComputedStyle(document.documentElement).backgroundColor;
            const light = colour.match(/\\d+/g).reduce((sum, part) => sum + Number(part), 0) / 3;
            say(light > 128 ? 'light' : 'dark');
        });
    ";
    let world = world().await;
    let site = site(&world, Some(GROUND), None).await;
    for dark in [false, true] {
        let shown = site
            .open(
                &browser,
                "",
                Look {
                    dark,
                    ..Look::default()
                },
            )
            .await;
        assert_eq!(said(&shown), if dark { "dark" } else { "light" });
    }
}
