//! Files that others write anew while a server runs, as certificates before they expire.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;

/// How often they are looked at. kube-apiserver is told of changes by the system, and looks once a minute as well.
const AGAIN: Duration = Duration::from_secs(1);

/// Small files whose contents are followed together.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    /// As they were when they were last looked at.
    seen: Vec<Option<String>>,
}

impl Files {
    /// These files, each with what is known to have been in it.
    pub fn new(files: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let (paths, seen) = files.into_iter().map(|(path, text)| (path, Some(text))).unzip();
        Self { paths, seen }
    }

    /// What is in them, in their order, once it is something else than before; never while one of them cannot be read.
    ///
    /// Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Vec<String> {
        if self.paths.is_empty() {
            return std::future::pending().await;
        }
        loop {
            sleep(AGAIN).await;
            let now = read(&self.paths);
            if now == self.seen {
                continue;
            }
            self.seen = now;
            match self.seen.iter().cloned().collect() {
                Some(texts) => return texts,
                None => {
                    tracing::warn!(files = ?self.paths, "a file cannot be read, what was in it counts until it can")
                }
            }
        }
    }
}

fn read(paths: &[PathBuf]) -> Vec<Option<String>> {
    paths
        .iter()
        .map(|path| std::fs::read_to_string(path).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_and_not_while_a_file_is_away() {
        let dir = tempfile::tempdir().expect("a folder");
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        let write = |name: usize, text: &str| std::fs::write(&paths[name], text).expect("writes");
        write(0, "1");
        write(1, "2");
        let mut files = Files::new(paths.iter().cloned().zip(["1", "2"].map(str::to_owned)));
        let long = Duration::from_secs(3600);
        assert!(
            timeout(long, files.changed()).await.is_err(),
            "nothing has changed"
        );
        write(1, "3");
        let begun = Instant::now();
        assert_eq!(files.changed().await, ["1", "3"]);
        assert!(begun.elapsed() <= AGAIN);
        std::fs::remove_file(&paths[0]).expect("removes");
        assert!(timeout(long, files.changed()).await.is_err(), "one is away");
        write(0, "4");
        assert_eq!(files.changed().await, ["4", "3"]);
        assert!(timeout(long, files.changed()).await.is_err(), "that is known");
    }
}
