//! How long a request may take. What is waited for on its behalf (webhooks, so far) ends by then; what the store does is
//! not cut short.

use std::time::Duration;

use tokio::time::Instant;
use trimtab_apimachinery_meta::ApiError;

use crate::api::ApiRequest;

/// What a write of one object may take; kube-apiserver's `requestTimeoutUpperBound`.
const WRITE: Duration = Duration::from_secs(34);

/// When the request has to be answered, if requests may take as long as `usual`.
///
/// # Errors
///
/// 400 when it says how long it may take in a way that cannot be understood.
pub(super) fn of(request: &ApiRequest, usual: Duration) -> Result<Instant, ApiError> {
    let longest = match request.info.verb.as_str() {
        "create" | "update" | "patch" | "delete" => WRITE.min(usual),
        _ => usual,
    };
    Ok(Instant::now() + asked(request.param("timeout"), longest)?)
}

/// How long a request may take that asks for this and gets `longest` at most.
///
/// # Errors
///
/// 400 when what it asks for cannot be understood.
pub(crate) fn asked(timeout: Option<&str>, longest: Duration) -> Result<Duration, ApiError> {
    let asked = match timeout {
        None | Some("") => Duration::ZERO,
        Some(text) => duration(text).ok_or_else(|| {
            ApiError::bad_request(format!(
                "invalid timeout specified in the request URL - time: invalid duration {text:?}"
            ))
        })?,
    };
    Ok(if asked.is_zero() {
        longest
    } else {
        asked.min(longest)
    })
}

/// 504: the request has taken all its time.
pub(crate) fn exceeded() -> ApiError {
    ApiError::timeout("request did not complete within requested timeout - context deadline exceeded")
}

/// A duration as Go writes it: `1m30s`, `1.5h`. A negative one counts as none.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    let mut any = false;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[end..];
        any = true;
    }
    if !any {
        return None;
    }
    if negative {
        return Some(Duration::ZERO);
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RequestInfo;

    #[tokio::test(start_paused = true)]
    async fn a_request_has_the_time_it_asks_for_up_to_what_its_verb_gets() {
        for (verb, timeout, expected) in [
            ("create", None, Ok(34_000)),
            ("get", None, Ok(60_000)),
            ("deletecollection", Some("10m"), Ok(60_000)),
            ("update", Some("1m"), Ok(34_000)),
            ("patch", Some("1.5s500ms"), Ok(2_000)),
            ("delete", Some("0"), Ok(34_000)),
            ("delete", Some("-5s"), Ok(34_000)),
            ("list", Some("1h"), Ok(60_000)),
            ("list", Some("10"), Err("time: invalid duration \"10\"")),
            ("list", Some("s"), Err("time: invalid duration \"s\"")),
            ("list", Some("1d"), Err("time: invalid duration \"1d\"")),
        ] {
            let request = ApiRequest {
                info: RequestInfo {
                    verb: verb.to_owned(),
                    ..RequestInfo::default()
                },
                query: timeout
                    .map(|text| ("timeout".to_owned(), text.to_owned()))
                    .into_iter()
                    .collect(),
                ..ApiRequest::default()
            };
            let millis = |end: Instant| end.duration_since(Instant::now()).as_millis();
            match (of(&request, Duration::from_secs(60)), expected) {
                (Ok(end), Ok(expected)) => assert_eq!(millis(end), expected, "{verb} {timeout:?}"),
                (Err(error), Err(why)) => {
                    let text = format!("invalid timeout specified in the request URL - {why}");
                    assert_eq!((error.code, error.message), (400, text));
                }
                (got, _) => panic!("{verb} {timeout:?}: {got:?}"),
            }
        }
    }
}
