//! Ranges of any size, read in pages that are small enough for one answer, all of one revision.

use bytes::Bytes;

use super::client::Kind;
use super::status::{is_answer_too_large, is_compacted, is_future};
use super::txn::key_value;
use super::wire;
use super::{Inner, as_i64};
use crate::contract::{Error, KeyValue, RangeRequest, RangeResponse, Result, Revision};

/// How many keys the first page asks for, and any at most (kube-apiserver's most, too).
const FIRST_PAGE: usize = 250;
const LARGEST_PAGE: usize = 10_000;
/// What a page should weigh.
const PAGE_BYTES: usize = 4 << 20;
/// How often a range at the current revision is begun again because compaction overtook it.
const RESTARTS: u32 = 3;

impl Inner {
    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        let mut restarts = 0;
        loop {
            match self.read(&request).await {
                // A list of now that took longer than revisions are kept is read anew.
                Err(Error::Compacted { .. }) if request.revision.is_none() && restarts < RESTARTS => {
                    restarts += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn read(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let (start, range_end) = self.root.their_range(&request.start, &request.end)?;
        let mut page = wire::Range {
            key: start,
            range_end,
            revision: self.readable(request.revision).await?,
            count_only: request.count_only,
            ..wire::Range::default()
        };
        let mut kvs: Vec<KeyValue> = Vec::new();
        let mut first: Option<(Revision, usize)> = None;
        let mut size = FIRST_PAGE;
        loop {
            let left = match request.limit {
                0 => usize::MAX,
                limit => limit.saturating_sub(kvs.len()),
            };
            page.limit = as_i64(size.min(left) as u64);
            let answer = self.ask(&mut page).await?;
            let revision = wire::revision(answer.header.as_ref());
            let (at, count) = *first.get_or_insert_with(|| {
                let at = request.revision.unwrap_or(revision);
                (at, usize::try_from(answer.count).unwrap_or(0))
            });
            let (got, mut bytes) = (answer.kvs.len(), 0);
            for kv in answer.kvs {
                bytes += kv.key.len() + kv.value.len();
                kvs.push(key_value(self.root.ours(kv.key.clone()), kv));
            }
            let done = request.count_only || got == 0 || !answer.more || kvs.len() == request.limit;
            if done {
                let more = !request.count_only && count > kvs.len();
                return Ok(RangeResponse {
                    kvs,
                    count,
                    more,
                    revision: at,
                });
            }
            size = (PAGE_BYTES / (bytes / got).max(1)).clamp(1, LARGEST_PAGE);
            if let Some(last) = kvs.last() {
                page.key = self.after(&last.key)?;
            }
            page.revision = as_i64(at);
        }
    }

    /// Asks for a page, which becomes smaller if it is too large for one answer.
    pub(super) async fn ask(&self, page: &mut wire::Range) -> Result<wire::RangeAnswer> {
        loop {
            let asked = u64::try_from(page.revision).unwrap_or(0);
            let answer: Result<wire::RangeAnswer, _> =
                self.client.call(wire::path::RANGE, Kind::Read, page).await;
            match answer {
                Ok(answer) => {
                    self.saw(answer.header.as_ref());
                    return Ok(answer);
                }
                Err(failure) if is_answer_too_large(&failure.status) && page.limit > 1 => {
                    page.limit = (page.limit / 4).max(1);
                }
                Err(failure) if is_future(&failure.status) => {
                    let current = self.revision().await?;
                    if current < asked {
                        return Err(Error::Future { asked, current });
                    }
                }
                Err(failure) if is_compacted(&failure.status) => return Err(self.compacted(asked).await),
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// The revision to ask etcd for; 0 for the current one.
    async fn readable(&self, asked: Option<Revision>) -> Result<i64> {
        let Some(asked) = asked else { return Ok(0) };
        let oldest = self.oldest();
        if asked < oldest {
            return Err(Error::Compacted { oldest });
        }
        match i64::try_from(asked) {
            Ok(asked) => Ok(asked),
            Err(_) => Err(Error::Future {
                asked,
                current: self.revision().await?,
            }),
        }
    }

    fn after(&self, key: &Bytes) -> Result<Vec<u8>> {
        Ok([&self.root.theirs(key)?[..], &[0]].concat())
    }
}
