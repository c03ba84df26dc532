//! One condition made of several: it is as good as the worst of them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{FALSE, MESSAGE_MAX, TRUE, UNKNOWN, find, is_current, new};

/// What a condition such as `Ready` is made of, and how.
///
/// The summary is `False` if a part is bad, else `Unknown` if it is not known of a part whether it is good, else `True`. The
/// first of the worst parts, in the order in which they are named here, gives the reason; all of the worst are in the
/// message.
///
/// ```
/// use trimtab_apimachinery_meta::conditions::{self, Summary};
/// # let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
///
/// let mut conditions = vec![
///     conditions::new("Synced", "True", "Applied", "", now),
///     conditions::new("Available", "False", "NoServers", "0 of 2 servers are ready", now),
/// ];
/// let ready = Summary::of(["Synced", "Available"])
///     .unless(["Degraded"])
///     .condition("Ready", &conditions, None, now);
/// assert_eq!((&*ready.status, &*ready.reason), ("False", "NoServers"));
/// assert_eq!(ready.message, "Available: 0 of 2 servers are ready");
/// conditions::set(&mut conditions, ready);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    type_: String,
    /// The status that is good.
    good: &'static str,
    /// The status that is bad.
    bad: &'static str,
}

/// How a part is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Good,
    Unknown,
    Bad,
}

/// How a part is, why, and what it says.
struct Verdict<'a> {
    part: &'a Part,
    standing: Standing,
    reason: &'a str,
    message: &'a str,
}

impl Summary {
    /// The reason if all parts are good.
    pub const AS_EXPECTED: &str = "AsExpected";
    /// The reason if a part that should hold is absent.
    pub const MISSING: &str = "Missing";
    /// The reason if a part is about an earlier generation of the object.
    pub const STALE: &str = "Stale";

    /// A summary of conditions that should hold: `True` is good and `False` bad. Absent, it is not known.
    pub fn of<T: Into<String>>(types: impl IntoIterator<Item = T>) -> Self {
        Self::default().with(types, TRUE, FALSE)
    }

    /// With conditions that tell of trouble: `False` is good and `True` bad. Absent, all is well.
    #[must_use]
    pub fn unless<T: Into<String>>(self, types: impl IntoIterator<Item = T>) -> Self {
        self.with(types, FALSE, TRUE)
    }

    fn with<T: Into<String>>(
        mut self,
        types: impl IntoIterator<Item = T>,
        good: &'static str,
        bad: &'static str,
    ) -> Self {
        let part = |type_: T| Part {
            type_: type_.into(),
            good,
            bad,
        };
        self.parts.extend(types.into_iter().map(part));
        self
    }

    /// The summary as a condition of the type `type_`, as of `now`, to be given to [`set`](super::set). `generation` is the
    /// object's: what a part says of another one is not known to be so of this one. A part of the summary's own type is
    /// left out.
    pub fn condition(
        &self,
        type_: &str,
        conditions: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Condition {
        let parts = self.parts.iter().filter(|part| part.type_ != type_);
        let verdicts: Vec<_> = parts.map(|part| part.judge(conditions, generation)).collect();
        let worst = verdicts.iter().map(|verdict| verdict.standing).max();
        let status = match worst.unwrap_or(Standing::Good) {
            Standing::Good => return observed(new(type_, TRUE, Self::AS_EXPECTED, "", now), generation),
            Standing::Unknown => UNKNOWN,
            Standing::Bad => FALSE,
        };
        let worst: Vec<_> = verdicts.iter().filter(|v| Some(v.standing) == worst).collect();
        let reason = worst.first().map_or(UNKNOWN, |verdict| verdict.reason);
        let texts: Vec<String> = worst.iter().map(|verdict| verdict.text()).collect();
        observed(
            new(type_, status, reason, shortened(texts.join("; ")), now),
            generation,
        )
    }
}

impl Part {
    fn judge<'a>(&'a self, conditions: &'a [Condition], generation: Option<i64>) -> Verdict<'a> {
        let verdict = |standing, reason, message| Verdict {
            part: self,
            standing,
            reason,
            message,
        };
        let Some(condition) = find(conditions, &self.type_) else {
            let absent = if self.good == TRUE {
                Standing::Unknown
            } else {
                Standing::Good
            };
            return verdict(absent, Summary::MISSING, "not reported yet");
        };
        if !is_current(condition, generation) {
            return verdict(
                Standing::Unknown,
                Summary::STALE,
                "not looked at since the last change",
            );
        }
        let standing = match condition.status.as_str() {
            status if status == self.good => Standing::Good,
            status if status == self.bad => Standing::Bad,
            _ => Standing::Unknown,
        };
        let reason = if condition.reason.is_empty() {
            UNKNOWN
        } else {
            &condition.reason
        };
        verdict(standing, reason, &condition.message)
    }
}

impl Verdict<'_> {
    fn text(&self) -> String {
        let said = if self.message.is_empty() {
            self.reason
        } else {
            self.message
        };
        format!("{}: {said}", self.part.type_)
    }
}

fn observed(condition: Condition, generation: Option<i64>) -> Condition {
    Condition {
        observed_generation: generation,
        ..condition
    }
}

/// The parts' messages are as long as is allowed, so all of them may be too long for one.
fn shortened(mut text: String) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > MESSAGE_MAX {
        let room = MESSAGE_MAX - ELLIPSIS.len();
        let end = (0..=room).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str(ELLIPSIS);
    }
    text
}
