//! `trimtab backup` and `trimtab restore`.

use std::path::Path;

use http::Request;
use http_body_util::BodyExt as _;
use kube::client::Body;
use trimtab::controller::process;
use trimtab_apiserver::backup::{
    BackupError, BackupFile, BackupOptions, RestoreOptions, SNAPSHOT_PATH, Source,
};
use trimtab_apiserver::cli::Progress;
use trimtab_apiserver::storage::Snapshot;
use trimtab_apiserver::storage::backup::Reader;

use crate::up::Outcome;

/// Saves what the store of a stopped server holds, or what a running server answers with.
pub(crate) async fn save(options: &BackupOptions) -> Outcome {
    let mut progress = Progress::new();
    let summary = match options.of.source()? {
        Source::Store(held) => options.save(held.snapshot(), &mut progress).await?,
        Source::Server(kubeconfig) => {
            let mut file = BackupFile::create(&options.file)?;
            let mut write = |piece: &[u8]| Ok(file.write(piece, &mut progress)?);
            fetch(&kubeconfig, &mut write).await?;
            file.finish(&mut progress)?
        }
    };
    drop(progress);
    println!("saved    {}", options.file.display());
    println!("{summary}");
    Ok(())
}

/// What a running server holds, all in memory.
pub(crate) async fn read(kubeconfig: &Path, told: &mut (dyn FnMut(String) + Send)) -> Outcome<Snapshot> {
    let mut pieces = Vec::new();
    let mut take = |piece: &[u8]| {
        pieces.extend_from_slice(piece);
        told(format!("reading: {} KiB", pieces.len() >> 10));
        Ok(())
    };
    fetch(kubeconfig, &mut take).await?;
    let mut reader = Reader::new(&pieces[..])?;
    let mut entries = Vec::new();
    while let Some(block) = reader.block()? {
        entries.extend(block);
    }
    Ok(Snapshot::new(reader.summary().revision, entries))
}

/// Asks a running server for a backup; `take` is given the pieces.
async fn fetch(kubeconfig: &Path, take: &mut (dyn FnMut(&[u8]) -> Outcome + Send)) -> Outcome {
    let client = process::connect(Some(kubeconfig)).await?;
    let request = Request::get(SNAPSHOT_PATH).body(Body::empty())?;
    let response = client.send(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let text = body.collect().await?.to_bytes();
        return Err(BackupError::refused(status.as_u16(), &text).into());
    }
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            take(&piece)?;
        }
    }
    Ok(())
}

/// Makes a data dir of a backup, or only checks it.
pub(crate) async fn restore(options: RestoreOptions) -> Outcome {
    let (file, target) = (options.file.clone(), options.data_dir.clone());
    let done = tokio::task::spawn_blocking(move || options.run(&mut Progress::new())).await??;
    println!("checked  {}", file.display());
    println!("{}", done.backup);
    if let Some(revision) = done.begins {
        println!(
            "restored {}, which begins at revision {revision}",
            target.display()
        );
    }
    Ok(())
}
