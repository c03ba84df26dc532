//! The answers of a server that refuses.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::ask::Kind;
use super::stream::Tap;
use super::{Answer, Faults};
use crate::history::Wire;

/// One way to refuse.
struct Refusal {
    /// How often, of all of them together.
    share: usize,
    code: u16,
    reason: &'static str,
    message: &'static str,
    /// Whether it says when to try again.
    says_when: bool,
}

const fn refusal(
    share: usize,
    code: u16,
    reason: &'static str,
    message: &'static str,
    says_when: bool,
) -> Refusal {
    Refusal {
        share,
        code,
        reason,
        message,
        says_when,
    }
}

const TOO_LARGE: &str = "Too large resource version: 9, current: 5";

/// What kube-apiserver refuses lists and watches with.
const REFUSALS: [Refusal; 12] = [
    refusal(
        4,
        429,
        "TooManyRequests",
        "the server has received too many requests",
        true,
    ),
    refusal(1, 429, "TooManyRequests", "storage is (re)initializing", false),
    refusal(3, 500, "InternalError", "etcdserver: request timed out", false),
    refusal(2, 503, "ServiceUnavailable", "apiserver not ready", true),
    refusal(1, 503, "ServiceUnavailable", "apiserver is shutting down", false),
    refusal(2, 410, "Expired", "too old resource version: 3 (5)", false),
    refusal(
        2,
        410,
        "Gone",
        "The resourceVersion for the provided watch is too old.",
        false,
    ),
    refusal(2, 504, "Timeout", TOO_LARGE, true),
    refusal(1, 504, "Timeout", "the request did not complete in time", false),
    refusal(1, 403, "Forbidden", "not allowed for now", false),
    refusal(
        1,
        404,
        "NotFound",
        "the server could not find the requested resource",
        false,
    ),
    // Before version 1.32 lists were not streamed, unless that was switched on.
    refusal(
        1,
        422,
        "Invalid",
        "sendInitialEvents is forbidden for watch",
        false,
    ),
];

const PAGE_EXPIRED: Refusal = refusal(
    1,
    410,
    "Expired",
    "The provided continue parameter is too old to display a consistent list result.",
    false,
);

impl Faults {
    /// Refuses a request.
    pub(super) fn refuse(self, kind: Kind) -> Answer {
        let known = REFUSALS.len() - usize::from(kind != Kind::StreamedList);
        let known = &REFUSALS[..known];
        let drawn = known
            .iter()
            .flat_map(|refusal| std::iter::repeat_n(refusal, refusal.share));
        let chosen = self.roll(|rng| rng.choice(drawn.collect::<Vec<_>>()));
        self.refuse_with(Wire::Answered, chosen.expect("there are refusals"))
    }

    /// Refuses a later page of a list, of which nothing is known any more.
    pub(super) fn refuse_page(self) -> Answer {
        self.refuse_with(Wire::PageExpired, &PAGE_EXPIRED)
    }

    fn refuse_with(self, wire: Wire, refusal: &Refusal) -> Answer {
        let after = 1 + self.roll(|rng| rng.u64(..self.0.pace.retry_after));
        self.note(wire, format!("{} {}", refusal.code, refusal.reason));
        let mut status = failure(refusal.code, refusal.reason, refusal.message);
        if refusal.message == TOO_LARGE && self.roll(|rng| rng.bool()) {
            // Servers before 1.18.5 say it in the message alone.
            status["details"] =
                json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": TOO_LARGE}]});
        }
        let mut answer = Response::new(Tap::of_whole(self, status.to_string().into()).into_body());
        *answer.status_mut() = StatusCode::from_u16(refusal.code).unwrap_or_default();
        if refusal.says_when {
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        answer
    }
}

/// A status that tells of a failure.
pub(super) fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}
