//! A site for one browser: the live page on a port of its own, on paused time, with what a test adds or takes away.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::Instant;
use trimtab::controller::introspection::{Introspection, Page};
use trimtab_tests::browser::{Browser, Look, Shown};

/// Called before a request of the API is answered, with its path and how many there were before; false cuts the
/// connection instead.
pub(crate) type Before = Arc<dyn Fn(&str, usize) -> bool + Send + Sync>;

/// A page that is served until it is dropped.
pub(crate) struct Site {
    address: String,
    server: JoinHandle<()>,
    served: Arc<Served>,
}

struct Served {
    page: Page,
    begun: Instant,
    /// A script that is loaded before the page's own, so that a test can do what a reader does.
    script: Option<String>,
    before: Option<Before>,
    asked: AtomicUsize,
}

/// What scripts of tests begin with.
const PRELUDE: &str = "
    const when = (ready, then) => (ready() ? then() : setTimeout(() => when(ready, then), 20));
    const later = (then) => setTimeout(then, 1500);
    const say = (text) => (document.documentElement.dataset.said = text);
    const loaded = () => document.querySelector('main h1') && !document.querySelector('.loading');
";

/// Goes to one address after the other within the page, and leaves behind what each of them showed.
const WALK: &str = "
    const views = document.createElement('div');
    const walk = ([hash, ...rest]) => {
        if (hash === undefined) return document.body.append(views);
        location.hash = hash;
        later(() => when(loaded, () => {
            const view = document.body.cloneNode(true);
            view.querySelectorAll('main')[0].dataset.view = document.title;
            views.append(...view.childNodes);
            walk(rest);
        }));
    };
    when(loaded, () => walk(HASHES));
";

/// Long enough for every script here: time in which a page has nothing to do passes at once.
pub(crate) const LONG: u32 = 30_000;

/// The wall clock's time so long after the test began, which is at noon.
pub(crate) fn wall(begun: Instant) -> Timestamp {
    let noon: Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
    noon + begun.elapsed()
}

impl Site {
    /// Serves what there is to be seen.
    pub(crate) async fn start(shown: Introspection, begun: Instant) -> Self {
        Self::with(shown, begun, None, None).await
    }

    /// Serves it together with a script or with something that happens before requests of the API.
    pub(crate) async fn with(
        shown: Introspection,
        begun: Instant,
        script: Option<String>,
        before: Option<Before>,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let served = Arc::new(Served {
            page: Page::new(shown),
            begun,
            script: script.map(|script| format!("{PRELUDE}{script}")),
            before,
            asked: AtomicUsize::new(0),
        });
        let server = served.clone();
        Self {
            address: format!("http://127.0.0.1:{port}/debug/controllers/"),
            server: tokio::spawn(async move {
                // A browser may open a connection before it has anything to ask, so each is served by itself.
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let server = server.clone();
                    // The browser may be gone before it has its answer.
                    connections.spawn(async move { server.answer(stream).await.ok() });
                }
            }),
            served,
        }
    }

    /// How many requests of the API were answered or cut.
    pub(crate) fn asked(&self) -> usize {
        self.served.asked.load(Ordering::Relaxed)
    }

    /// Opens a view; where `TRIMTAB_PAGE_PICTURES` names a folder, takes a picture of it, too, unless a picture would count.
    pub(crate) async fn open(&self, browser: &Browser, hash: &str, look: Look) -> Shown {
        let (browser, address) = (browser.clone(), format!("{}{hash}", self.address));
        let plain = self.served.script.is_none() && self.served.before.is_none();
        let dir = std::env::var_os("TRIMTAB_PAGE_PICTURES").filter(|_| plain);
        let picture = dir.map(|dir| picture(dir.into(), hash, look));
        let shown = spawn_blocking(move || {
            if let Some(file) = picture {
                browser.picture(&address, look, &file);
            }
            browser.open(&address, look)
        });
        let shown = shown
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        for line in shown.log.lines().filter(|line| line.contains("CONSOLE")) {
            let lost = line.contains("Failed to load resource");
            assert!(lost, "the page complains: {line}");
        }
        shown
    }
}

/// Goes through views without loading the page again, and returns what each of them showed.
pub(crate) async fn walk(
    shown: &Introspection,
    begun: Instant,
    browser: &Browser,
    hashes: &[&str],
    look: Look,
) -> Vec<Shown> {
    let list = serde_json::to_string(hashes).expect("it can be encoded");
    let site = Site::with(shown.clone(), begun, Some(WALK.replace("HASHES", &list)), None).await;
    let look_long = Look { run: LONG, ..look };
    let all = site.open(browser, "", look_long).await;
    let views: Vec<Shown> = all
        .html
        .split("data-view=")
        .skip(1)
        .map(|html| Shown {
            html: format!("<main data-view={html}"),
            log: all.log.clone(),
        })
        .collect();
    assert_eq!(views.len(), hashes.len(), "{}\n{}", all.html, all.log);
    if std::env::var_os("TRIMTAB_PAGE_PICTURES").is_some() {
        let site = Site::start(shown.clone(), begun).await;
        for hash in hashes {
            site.open(browser, hash, look).await;
        }
    }
    views
}

fn picture(dir: PathBuf, hash: &str, look: Look) -> PathBuf {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    let view: String = hash.chars().map(plain).collect();
    let palette = if look.dark { "dark" } else { "light" };
    dir.join(format!("page{view}-{}-{palette}.png", look.size.0))
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Served {
    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return Ok(()), // a connection that was opened in advance
            }
        }
        let text = String::from_utf8_lossy(&request);
        let mut words = text.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Ok(());
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        if path.contains("/api/") {
            let before = self.asked.fetch_add(1, Ordering::Relaxed);
            if self.before.as_ref().is_some_and(|answers| !answers(path, before)) {
                return Ok(());
            }
        }
        let method: Method = method.parse().unwrap_or_default();
        let answer = self.page.respond(&method, path, query, wall(self.begun));
        let (head, body) = answer.into_parts();
        let body = match (&self.script, path.strip_prefix("/debug/controllers/")) {
            (Some(_), Some("")) => {
                let page = String::from_utf8_lossy(&body);
                let with = page.replacen("<script", "<script src=\"probe.js\"></script><script", 1);
                with.into_bytes().into()
            }
            (Some(script), Some("probe.js")) => script.clone().into_bytes().into(),
            _ => body,
        };
        let status = if path.ends_with("/probe.js") {
            200
        } else {
            head.status.as_u16()
        };
        let mut bytes = format!(
            "HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        )
        .into_bytes();
        for (name, value) in &head.headers {
            let script = path.ends_with("/probe.js") && name == http::header::CONTENT_TYPE;
            let value = if script {
                b"text/javascript"
            } else {
                value.as_bytes()
            };
            bytes.extend([name.as_str().as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    }
}
