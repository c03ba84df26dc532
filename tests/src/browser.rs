//! A browser without a window, which opens an address, lets the page run for a while, and says what it shows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::clients::skip;
use crate::eventually;

/// Names under which Chromium is installed.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];

/// No window, no network but what a page asks for, nothing kept. The sandbox needs rights that a container lacks.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
];

/// Chromium.
#[derive(Clone, Debug)]
pub struct Browser {
    program: PathBuf,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The window, in pixels.
    pub size: (u32, u32),
    /// Whether the reader likes it dark.
    pub dark: bool,
    /// For how many milliseconds of its own time the page runs. They pass as fast as the page has nothing to do.
    pub run: u32,
}

/// What a page showed in the end.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The document as markup.
    pub html: String,
    /// What the browser logged: errors of scripts, what a policy forbade.
    pub log: String,
}

/// A browser that runs, killed when dropped.
struct Running(Child);

impl Default for Look {
    /// A window of 1200 × 900, light, for three seconds.
    fn default() -> Self {
        Self {
            size: (1200, 900),
            dark: false,
            run: 3000,
        }
    }
}

impl Browser {
    /// Finds Chromium; `None`, with a printed reason, where there is none.
    pub fn new() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = NAMES.iter().find_map(|name| {
            let mut places = std::env::split_paths(&path).map(|dir| dir.join(name));
            places.find(|program| program.is_file())
        });
        if found.is_none() {
            skip("Chromium");
        }
        Some(Self { program: found? })
    }

    /// Opens an address and returns what the page shows in the end.
    ///
    /// # Panics
    ///
    /// When the browser cannot be started or does not end.
    pub fn open(&self, address: &str, look: Look) -> Shown {
        let (html, log) = self.run(address, look, &["--dump-dom".to_owned()]);
        assert!(
            html.contains("</html>"),
            "{address} shows nothing; the log:\n{log}"
        );
        Shown { html, log }
    }

    /// Opens an address and takes a picture of what the page shows in the end, as PNG.
    ///
    /// # Panics
    ///
    /// When the browser cannot be started, does not end or takes no picture.
    pub fn picture(&self, address: &str, look: Look, file: &Path) {
        let (_, log) = self.run(address, look, &[format!("--screenshot={}", file.display())]);
        assert!(file.is_file(), "no picture of {address}; the log:\n{log}");
    }

    fn run(&self, address: &str, look: Look, more: &[String]) -> (String, String) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (out, log) = (dir.path().join("out"), dir.path().join("log"));
        let file = |path: &Path| Stdio::from(File::create(path).expect("a file of its own"));
        let (width, height) = look.size;
        let mut command = Command::new(&self.program);
        command
            .args(FLAGS)
            .arg(format!(
                "--user-data-dir={}",
                dir.path().join("profile").display()
            ))
            // A window has a least width, a full screen has not.
            .arg(format!("--ozone-override-screen-size={width},{height}"))
            .arg("--start-fullscreen")
            .arg(format!("--virtual-time-budget={}", look.run))
            .args(look.dark.then_some("--blink-settings=preferredColorScheme=0"))
            .args(more)
            .arg(address)
            .stdin(Stdio::null())
            .stdout(file(&out))
            .stderr(file(&log));
        let mut running = Running(command.spawn().expect("the browser starts"));
        let text =
            |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        let describe = || {
            format!(
                "the browser does not end with {address}; its log:\n{}",
                text(&log)
            )
        };
        let status = eventually(describe, || {
            running.0.try_wait().expect("a child can be waited for")
        });
        assert!(
            status.success(),
            "the browser ended with {status}; its log:\n{}",
            text(&log)
        );
        (text(&out), text(&log))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

impl Shown {
    /// The text that the page shows, without its markup, its words apart by single spaces.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut joined = false;
        for part in self.html.split('<').skip(1) {
            let (tag, words) = part.split_once('>').unwrap_or((part, ""));
            // A namespace and the name after it are one word.
            if !(joined && tag == "/span") {
                text.push(' ');
            }
            joined = tag == "span class=\"namespace\"";
            text.push_str(words);
        }
        let entities = [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&nbsp;", " "),
            ("&quot;", "\""),
            ("&amp;", "&"),
        ];
        let text = entities
            .iter()
            .fold(text, |text, (entity, letter)| text.replace(entity, letter));
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
