//! Where events go: a file or standard output, before the request goes on or by a thread of its own.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::event::Truncation;
use super::file::{LogFile, Rotation};

/// Events that may wait for the thread that writes; more are lost. kube-apiserver's `--audit-log-batch-buffer-size`.
const BUFFER: usize = 10_000;
/// So many are written at once, at most; kube-apiserver's `--audit-log-batch-max-size` has one.
const AT_ONCE: usize = 400;

/// When events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Before the request goes on.
    #[default]
    Blocking,
    /// The same, and a request whose beginning cannot be written is refused.
    BlockingStrict,
    /// By a thread of its own, soon; when that cannot keep up, events are lost.
    Batch,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// When it is begun anew.
    pub rotation: Rotation,
    /// When events are written.
    pub mode: Mode,
    /// How long they may be; `None` for as long as they are.
    pub truncation: Option<Truncation>,
}

enum Out {
    Stdout,
    File(LogFile),
}

/// Writes events.
pub(super) struct Sink {
    mode: Mode,
    pub(super) truncation: Option<Truncation>,
    /// Unless a thread has it.
    out: Option<Mutex<Out>>,
    thread: Option<(SyncSender<Vec<u8>>, JoinHandle<()>)>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Out {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
            Self::File(file) => file.write(lines, Timestamp::now()),
        }
    }
}

impl Sink {
    pub(super) fn open(config: &LogConfig, failed: impl Fn(usize) + Send + 'static) -> io::Result<Self> {
        let out = if config.path.as_os_str() == "-" {
            Out::Stdout
        } else {
            Out::File(LogFile::open(&config.path, config.rotation)?)
        };
        let mut sink = Self {
            mode: config.mode,
            truncation: config.truncation,
            out: None,
            thread: None,
        };
        if config.mode == Mode::Batch {
            let (sender, receiver) = sync_channel(BUFFER);
            let thread = std::thread::Builder::new().name("audit".to_owned());
            let longest = config
                .truncation
                .map_or(usize::MAX, |truncation| truncation.max_batch);
            let thread = thread.spawn(move || write_all(out, &receiver, longest, &failed))?;
            sink.thread = Some((sender, thread));
        } else {
            sink.out = Some(Mutex::new(out));
        }
        Ok(sink)
    }

    pub(super) fn is_strict(&self) -> bool {
        self.mode == Mode::BlockingStrict
    }

    /// Writes an event, or has it written.
    ///
    /// # Errors
    ///
    /// When it is lost.
    pub(super) fn write(&self, line: Vec<u8>) -> io::Result<()> {
        if let Some(out) = &self.out {
            return out.lock().write(&line);
        }
        let Some((sender, _)) = &self.thread else {
            return Ok(());
        };
        let sent = sender.try_send(line);
        sent.map_err(|_| io::Error::other("too many events wait to be written"))
    }
}

impl Drop for Sink {
    /// Waits until what has been handed over is written.
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            let _ = thread.join(); // one that panicked has said so
        }
    }
}

fn write_all(mut out: Out, events: &Receiver<Vec<u8>>, longest: usize, failed: &impl Fn(usize)) {
    let mut left = None;
    while let Some(mut lines) = left.take().or_else(|| events.recv().ok()) {
        let mut count = 1;
        while count < AT_ONCE
            && let Ok(more) = events.try_recv()
        {
            if lines.len() + more.len() > longest {
                left = Some(more);
                break;
            }
            lines.extend_from_slice(&more);
            count += 1;
        }
        if let Err(error) = out.write(&lines) {
            tracing::error!(%error, "audit events cannot be written");
            failed(count);
        }
    }
}
