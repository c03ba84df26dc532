//! The plain form of a webhook: a function from a request to a verdict, over objects as they were sent.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use json_patch::Patch;
use serde_json::Value;

use super::refusal::Refusal;
use super::request::Request;

/// Answers requests about objects of any kind.
pub trait Handler: Send + Sync + 'static {
    /// Whether the operation may be done, and with which object. Cancelled when the server gives up; a panic is a
    /// refusal with 500.
    fn handle(&self, request: &Request) -> impl Future<Output = Result<Admitted, Refusal>> + Send;
}

/// The operation may be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Admitted {
    /// With the object as it was sent.
    AsSent,
    /// With this object in its place. Only a mutating webhook can say so.
    Changed(Value),
    /// With this JSON patch of the object as it was sent. Only a mutating webhook can say so.
    Patched(Patch),
}

/// A handler whose type is forgotten.
pub(crate) type Erased = Arc<dyn Fn(Arc<Request>) -> BoxFuture<'static, Verdict> + Send + Sync>;

/// How a handler ended.
pub(crate) enum Verdict {
    Yes(Admitted),
    No(Refusal),
    /// It panicked, with these words.
    Panic(String),
}

pub(crate) fn erase(handler: impl Handler) -> Erased {
    let handler = Arc::new(handler);
    Arc::new(move |request: Arc<Request>| {
        let handler = handler.clone();
        let handled = AssertUnwindSafe(async move { handler.handle(&request).await }).catch_unwind();
        async move {
            match handled.await {
                Ok(Ok(admitted)) => Verdict::Yes(admitted),
                Ok(Err(refusal)) => Verdict::No(refusal),
                Err(panic) => Verdict::Panic(words_of(panic.as_ref())),
            }
        }
        .boxed()
    })
}

/// What a panic said.
pub(crate) fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "not a text".to_owned())
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes(admitted) => admitted.fmt(f),
            Self::No(refusal) => refusal.fmt(f),
            Self::Panic(words) => f.debug_tuple("Panic").field(words).finish(),
        }
    }
}
