//! `trimtab status`.

use std::io::{self, ErrorKind, Write as _};

use trimtab_apiserver::backup::Source;
use trimtab_apiserver::cli::Progress;
use trimtab_apiserver::status::{StatusOptions, StoreFile, StoreStatus};

use crate::backup::read;
use crate::up::Outcome;

/// Says what a store holds that no server has open, or what a running server holds.
pub(crate) async fn run(options: &StatusOptions) -> Outcome {
    let mut progress = Progress::new();
    let mut status = StoreStatus::default();
    let snapshot = match options.of.source()? {
        Source::Store(held) => {
            let (bytes, format) = held.file()?;
            status.file = Some(StoreFile { bytes, format });
            status.oldest_revision = Some(held.oldest());
            held.snapshot()
        }
        Source::Server(kubeconfig) => {
            status.served = true;
            read(&kubeconfig, &mut |line| progress.show(|| line)).await?
        }
    };
    let mut shown = |keys, of| progress.show(|| format!("counting: {keys} of {of} keys"));
    status.take_in(snapshot, &mut shown).await?;
    drop(progress);
    match writeln!(io::stdout(), "{}", status.shown(options.output)) {
        // Who reads it has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}
