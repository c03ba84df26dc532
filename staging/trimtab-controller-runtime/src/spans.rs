//! The spans of a turn, for logs and traces: what each is called, and which fields it has.
//!
//! The names and fields are documented in [`crate::process`], since people look for them in their backends.

use std::fmt::Display;

use tracing::field::{Empty, display};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, info_span};
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_workqueue::{Reasons, Work};

use crate::error::Error;
use crate::introspection::Outcome;
use crate::subject::{Reconciled, RequestKey};

/// Whether nobody looks at any span of ours. The macros find that out as well, but where `tracing` is to write to the `log`
/// crate, as `kube` has it, only after all fields have been made.
fn is_off() -> bool {
    LevelFilter::current() < Level::INFO
}

/// A key's way from the queue until its writes are seen. It is nobody's child: each turn is a trace of its own.
pub(crate) fn turn<Q: RequestKey>(controller: &str, work: &Work<Q>) -> Span {
    if is_off() {
        return Span::none();
    }
    info_span!(
        parent: None,
        "turn",
        controller,
        key = %work.key(),
        reasons = told(work.reasons()),
        waited_seconds = work.waited().as_secs_f64(),
        attempt = Empty,
        outcome = Empty,
        again_seconds = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

/// The author's part of a turn.
pub(crate) fn reconcile() -> Span {
    if is_off() {
        return Span::none();
    }
    info_span!("reconcile")
}

/// The wait until the caches show what a turn has written.
pub(crate) fn settle() -> Span {
    if is_off() {
        return Span::none();
    }
    info_span!("settle", seen = Empty)
}

/// A request about an object, or about its status or another part of it.
pub(crate) fn request<T: Reconciled>(verb: &'static str, key: &ObjectKey, part: Option<&str>) -> Span {
    if is_off() {
        return Span::none();
    }
    info_span!(
        "request",
        verb,
        kind = %T::kind(&T::DynamicType::default()),
        object = %key,
        part,
        otel.kind = "client",
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

/// Says in the span of a turn which attempt it is.
pub(crate) fn attempt(attempt: u32) {
    Span::current().record("attempt", attempt);
}

/// Says in the span of a turn that it did not take place: the key failed, and nothing has changed since.
pub(crate) fn postponed() {
    Span::current().record("outcome", "postponed");
}

/// Says in the span of a turn that the key is another replica's: it did not take place, or was cut off.
pub(crate) fn left() {
    Span::current().record("outcome", "left");
}

/// Says in the span of a turn how it ended.
pub(crate) fn ended(outcome: &Outcome) {
    let span = Span::current();
    let (word, again, trouble): (_, _, Option<&dyn Display>) = match outcome {
        Outcome::Success => ("success", None, None),
        Outcome::RequeueAfter { delay } => ("requeue_after", Some(delay), None),
        Outcome::Conflict { delay } => ("conflict", Some(delay), None),
        Outcome::Error { message, delay } => ("error", Some(delay), Some(message)),
        Outcome::Terminal { message } => ("terminal", None, Some(message)),
        Outcome::Panic { message, delay } => ("panic", Some(delay), Some(message)),
        Outcome::TimedOut { limit, delay } => {
            fail(&span, &format_args!("the turn took longer than {limit:?}"));
            ("timed_out", Some(delay), None)
        }
        Outcome::CutOff => ("cut_off", None, None),
    };
    span.record("outcome", word);
    if let Some(again) = again {
        span.record("again_seconds", again.as_secs_f64());
    }
    if let Some(trouble) = trouble {
        fail(&span, trouble);
    }
}

/// Says in the span of a request whether it was refused. That somebody was faster, or that an object is gone, is no trouble.
pub(crate) fn answered<A>(span: &Span, answer: &Result<A, Error>) {
    if let Err(error) = answer
        && !error.is_conflict()
        && !error.is_not_found()
    {
        fail(span, error);
    }
}

/// Marks a span as failed, in the fields that OpenTelemetry reads. The code comes first: to set it takes the words away.
fn fail(span: &Span, why: &dyn Display) {
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", display(why));
}

/// Why the key came up, in one line.
fn told(reasons: &Reasons) -> String {
    let mut told = reasons.iter().collect::<Vec<_>>().join("; ");
    if reasons.omitted() > 0 {
        told.push_str(&format!("; and {} more", reasons.omitted()));
    }
    told
}
