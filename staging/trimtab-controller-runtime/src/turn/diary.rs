//! What a turn tells people of its writes: see [`crate::introspection`]. Nothing is kept where nobody looks.

use trimtab_apimachinery_meta::ObjectKey;

use super::Turn;
use crate::error::Result;
use crate::introspection::{StatusWrite, TurnRecord, Verb, Write};
use crate::subject::{Reconciled, Subject};

impl<S: Subject> Turn<S> {
    /// A request was answered, or failed.
    pub(super) fn asked<T: Reconciled, A>(
        &mut self,
        verb: Verb,
        key: &ObjectKey,
        answer: &Result<A>,
        version: impl FnOnce(&A) -> Option<&str>,
    ) {
        let Some(record) = &mut self.record else { return };
        let write = write::<T>(verb, key);
        record.wrote(match answer {
            Ok(answer) => match version(answer) {
                Some(version) => write.version(version),
                None => write,
            },
            Err(error) => write.refused(error),
        });
    }

    /// A request was not needed.
    pub(super) fn spared<T: Reconciled>(&mut self, verb: Verb, key: &ObjectKey) {
        if let Some(record) = &mut self.record {
            record.wrote(write::<T>(verb, key).unchanged());
        }
    }

    /// What became of the status.
    pub(super) fn told(&mut self, status: StatusWrite) {
        if let Some(record) = &mut self.record {
            record.status(status);
        }
    }

    /// Gives the record of the turn to those who end it.
    pub(crate) fn take_record(&mut self) -> Option<TurnRecord> {
        self.record.take()
    }
}

fn write<T: Reconciled>(verb: Verb, key: &ObjectKey) -> Write {
    let kind = T::kind(&T::DynamicType::default()).into_owned();
    Write::new(verb, kind, key)
}
