//! The token by which a client asks for the next page of a list: the revision of the first page, and where to go on.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use trimtab_apiserver_storage::Revision;

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContinueToken {
    /// The form of the token.
    v: String,
    /// The revision that every page is read at; -1 for the current one, whatever it is.
    rv: i64,
    /// The first key of the page, without the prefix of the collection.
    start: String,
}

const FORM: &str = "meta.k8s.io/v1";

impl ContinueToken {
    pub(crate) fn new(revision: Revision, start: impl Into<String>) -> Self {
        Self {
            v: FORM.to_owned(),
            rv: i64::try_from(revision).unwrap_or(-1),
            start: start.into(),
        }
    }

    /// The token that goes on from the same place at whatever revision is current.
    pub(crate) fn inconsistent(self) -> Self {
        Self { rv: -1, ..self }
    }

    /// The revision to read at; `None` for the current one.
    pub(crate) fn revision(&self) -> Option<Revision> {
        Revision::try_from(self.rv).ok()
    }

    /// The first key of the page, without the prefix of the collection.
    pub(crate) fn start(&self) -> &str {
        &self.start
    }

    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a token; the error says why not.
    pub(crate) fn decode(text: &str) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|e| e.to_string())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        match token {
            Self { v, .. } if v != FORM => {
                Err(format!("server does not recognize this encoded version {v:?}"))
            }
            Self { rv: 0, .. } => {
                Err("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned())
            }
            Self { start, .. } if start.split('/').any(|part| part == "..") => {
                Err(format!("invalid start key {start:?}"))
            }
            token => Ok(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_nonsense_is_refused() {
        let token = ContinueToken::new(7, "ns/a\0");
        assert_eq!(ContinueToken::decode(&token.encode()).as_ref(), Ok(&token));
        assert_eq!(token.revision(), Some(7));
        assert_eq!(token.inconsistent().revision(), None);
        for bad in [
            "",
            "x",
            "e30",
            &ContinueToken::new(3, "../../x").encode(),
            &ContinueToken::new(0, "a").encode(),
        ] {
            assert!(ContinueToken::decode(bad).is_err(), "{bad:?}");
        }
    }
}
