//! Events of the simulation, so that few pods tell everything and thousands do not drown the server in it.

use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use tokio::time::Instant;
use trimtab_client_coordination::events::{Note, Recorder, Severity};

/// How many events that all went well may be written in a second; all nodes together have what a kubelet has.
const PER_SECOND: f64 = 50.0;
/// How many may be written at once. The kubelet's figure.
const BURST: f64 = 100.0;

/// Takes notes, and lets go of those beyond the limit; warnings are always taken.
#[derive(Debug)]
pub(crate) struct Notes {
    recorder: Recorder,
    bucket: Mutex<(f64, Instant)>,
}

impl Notes {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            bucket: Mutex::new((BURST, Instant::now())),
        }
    }

    pub(crate) fn take(&self, regarding: ObjectReference, note: Note) {
        if note.severity == Severity::Warning || self.has_room() {
            self.recorder.record_for(regarding, note);
        }
    }

    fn has_room(&self) -> bool {
        let (left, at) = &mut *self.bucket.lock();
        let now = Instant::now();
        *left = (*left + PER_SECOND * (now - *at).as_secs_f64()).min(BURST);
        *at = now;
        let room = *left >= 1.0;
        if room {
            *left -= 1.0;
        }
        room
    }
}
