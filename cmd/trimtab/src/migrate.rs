//! `trimtab migrate`.

use std::path::Path;

use trimtab_apiserver::backup::{Source, SourceOptions};
use trimtab_apiserver::cli::{self, Progress};
use trimtab_apiserver::etcd::migrate::{MigrateOptions, Way};
use trimtab_apiserver::storage::Snapshot;

use crate::backup::read;
use crate::up::Outcome;

/// Moves everything, and says what both sides hold then.
pub(crate) async fn run(options: &MigrateOptions) -> Outcome {
    let mut progress = Progress::new();
    let mut told = |line: String| progress.show(|| line);
    let done = match options.way()? {
        Way::IntoEtcd(held) => options.into_etcd(&held, &mut told).await?,
        Way::Ahead(dir) => {
            let snapshot = running(&dir, &mut told).await?;
            options.ahead(snapshot, &mut told).await?
        }
        Way::FromEtcd(vacant) => options.from_etcd(vacant, told_to_stop(), &mut told).await?,
    };
    drop(progress);
    println!("{done}");
    Ok(())
}

/// From when on it is waited for, Ctrl-C does not end the process.
async fn told_to_stop() {
    eprintln!("following what is written to etcd: stop its API servers, and then press Ctrl-C");
    if let Err(error) = cli::interrupted().await {
        eprintln!("following ends now, since signals cannot be listened for: {error}");
    }
}

/// What the server holds that runs on a data dir.
async fn running(dir: &Path, told: &mut (dyn FnMut(String) + Send)) -> Outcome<Snapshot> {
    let asked = SourceOptions {
        data_dir: dir.to_owned(),
        kubeconfig: None,
    };
    let kubeconfig = match asked.source()? {
        Source::Server(kubeconfig) => kubeconfig,
        Source::Store(_) => return Err("the server has just been stopped: leave out --ahead".into()),
    };
    read(&kubeconfig, told).await
}
