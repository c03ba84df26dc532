//! What etcd's refusals mean: whether to ask again, whom, and what to tell the caller.
//!
//! The texts are those of etcd's `rpctypes`, which clients have matched since 3.0; codes alone do not tell
//! a write that was refused from one that may yet happen.

use std::error::Error as _;
use std::io;

use tonic::{Code, ConnectError, Status};

use crate::contract::Error;

/// What to do about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The call has surely not been carried out; another member may do it.
    Elsewhere,
    /// The call has surely not been carried out; the member is busy.
    Later,
    /// The call has surely not been carried out; the member does not know our token (any more).
    Login,
    /// The call has surely not been carried out, and will not be.
    Refused,
    /// The call may have been carried out, or may yet be.
    Unclear,
}

/// A call that failed, and where.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The member's URL.
    pub(crate) member: String,
    pub(crate) status: Status,
    /// Whether it may have been carried out.
    pub(crate) unclear: bool,
}

const SURELY_ELSEWHERE: [&str; 4] = [
    "etcdserver: no leader",
    "etcdserver: rpc not supported for learner",
    "etcdserver: unhealthy cluster",
    "etcdserver: not capable",
];

const LOGIN: [&str; 3] = [
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
];

pub(crate) fn verdict(status: &Status) -> Verdict {
    let message = status.message();
    if never_connected(status) || SURELY_ELSEWHERE.contains(&message) {
        return Verdict::Elsewhere;
    }
    if LOGIN.contains(&message) {
        return Verdict::Login;
    }
    if message == "etcdserver: too many requests" {
        return Verdict::Later;
    }
    match status.code() {
        Code::Unavailable
        | Code::Unknown
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Aborted => Verdict::Unclear,
        _ => Verdict::Refused,
    }
}

fn never_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Whether the member cannot be believed to be one of ours, or its TLS cannot be spoken: no matter of waiting.
pub(crate) fn is_untrusted(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        // An I/O error shows its cause's cause as its own.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<rustls::Error>()) || error.is::<rustls::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Whether the revision asked for has been compacted.
pub(crate) fn is_compacted(status: &Status) -> bool {
    status.message() == "etcdserver: mvcc: required revision has been compacted"
}

/// Whether the revision asked for has not happened yet.
pub(crate) fn is_future(status: &Status) -> bool {
    status.message() == "etcdserver: mvcc: required revision is a future revision"
}

/// Whether a lease that a put names has expired.
pub(crate) fn is_lease_gone(status: &Status) -> bool {
    status.message() == "etcdserver: requested lease not found"
}

/// Whether the answer was larger than what we take.
pub(crate) fn is_answer_too_large(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains("decoded message length too large")
}

fn is_request_too_large(status: &Status) -> bool {
    status.message() == "etcdserver: request is too large"
        || status.message().contains("received message larger than max")
}

/// What went wrong, with all that is known of it: `Status` hides its causes.
fn text(status: &Status) -> String {
    let message = status.message();
    let mut text = if message.is_empty() {
        status.code().description().to_owned()
    } else {
        message.to_owned()
    };
    let mut source = status.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// What an operator can do about it; empty where the text says it all.
fn advice(status: &Status) -> &'static str {
    match status.message() {
        "etcdserver: no leader" => ": a majority of its members must be up and reach each other",
        "etcdserver: user name is empty" => {
            ": its authentication is on, so a user and a password, or a client certificate, are needed"
        }
        "etcdserver: permission denied" => ": the user needs a role that may read and write the prefix",
        "etcdserver: too many operations in txn request" => ": its --max-txn-ops must be raised",
        "etcdserver: authentication failed, invalid user ID or password" => {
            ": check the user and the password"
        }
        _ if is_untrusted(status) => ": check the authority of its certificate, and ours",
        _ if never_connected(status) => ": is it running, and is the address right?",
        _ => "",
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let Failure {
            member,
            status,
            unclear,
        } = failure;
        let text = text(&status);
        if unclear {
            return Self::Unknown(format!("etcd at {member}: {text}"));
        }
        if status.message() == "etcdserver: mvcc: database space exceeded" {
            return Self::Full(format!(
                "etcd at {member} has reached its quota (--quota-backend-bytes): compact and defragment it or raise the \
                 quota, then run `etcdctl alarm disarm`"
            ));
        }
        if is_request_too_large(&status) {
            return Self::TooLarge(format!("etcd at {member}: {text} (its --max-request-bytes)"));
        }
        Self::Io(format!("etcd at {member}: {text}{}", advice(&status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: Status, unclear: bool) -> Error {
        Failure {
            member: "http://m0".to_owned(),
            status,
            unclear,
        }
        .into()
    }

    #[test]
    fn only_what_has_surely_not_happened_may_be_repeated() {
        let of = |code, message: &str| verdict(&Status::new(code, message));
        for (code, message, wanted) in [
            (Code::Unavailable, "etcdserver: no leader", Verdict::Elsewhere),
            (
                Code::FailedPrecondition,
                "etcdserver: rpc not supported for learner",
                Verdict::Elsewhere,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                Verdict::Later,
            ),
            (
                Code::Unauthenticated,
                "etcdserver: invalid auth token",
                Verdict::Login,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: revision of auth store is old",
                Verdict::Login,
            ),
            (Code::Unavailable, "etcdserver: leader changed", Verdict::Unclear),
            (
                Code::Unavailable,
                "etcdserver: request timed out",
                Verdict::Unclear,
            ),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
                Verdict::Unclear,
            ),
            (Code::Unavailable, "etcdserver: server stopped", Verdict::Unclear),
            (Code::Unknown, "transport error", Verdict::Unclear),
            (Code::DeadlineExceeded, "no answer within 10 s", Verdict::Unclear),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Verdict::Refused,
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                Verdict::Refused,
            ),
        ] {
            assert_eq!(of(code, message), wanted, "{message}");
        }
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(ConnectError(refused.into())));
        assert_eq!(verdict(&status), Verdict::Elsewhere);
    }

    #[test]
    fn errors_say_what_where_and_what_to_do() {
        let status = |code, message: &str| Status::new(code, message);
        let full = failure(
            status(
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            false,
        );
        assert!(
            matches!(&full, Error::Full(why) if why.contains("http://m0") && why.contains("alarm disarm")),
            "{full}"
        );
        let large = failure(
            status(Code::InvalidArgument, "etcdserver: request is too large"),
            false,
        );
        assert!(matches!(large, Error::TooLarge(_)), "{large}");
        let large = "grpc: received message larger than max (3000000 vs. 2097152)";
        let large = failure(status(Code::ResourceExhausted, large), false);
        assert!(matches!(large, Error::TooLarge(_)), "{large}");
        let unknown = failure(status(Code::Unavailable, "etcdserver: request timed out"), true);
        assert_eq!(
            unknown.to_string(),
            "it is not known whether the write has happened: etcd at http://m0: etcdserver: request timed out"
        );
        let denied = failure(
            status(Code::PermissionDenied, "etcdserver: permission denied"),
            false,
        );
        assert!(
            matches!(&denied, Error::Io(why) if why.contains("needs a role")),
            "{denied}"
        );
    }
}
