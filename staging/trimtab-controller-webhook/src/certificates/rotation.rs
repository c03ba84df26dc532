//! What is to be done next about authorities and certificates, as a function of what there is and of the time.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::error::ProvisionError;
use super::material::{BACKDATED, Material};

/// How long authorities and certificates last. Both are renewed when a third of their life is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An authority. The default is 365 days.
    pub authority: SignedDuration,
    /// A serving certificate. The default is 90 days.
    pub serving: SignedDuration,
    /// How long a new authority is trusted before it issues certificates. The default is a day.
    pub overlap: SignedDuration,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

/// What certificates say of themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Authorities that are trusted, the newest first.
    pub(super) authorities: Vec<Life>,
    pub(super) certificate: Certificate,
}

/// What a serving certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) life: Life,
    pub(super) names: BTreeSet<String>,
    /// Which of the authorities has issued it; none of them: nobody trusts it.
    pub(super) issuer: Option<usize>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make everything anew: there is nothing to go on from.
    Begin,
    /// Trust authorities that have expired no more.
    Forget,
    /// Add a new authority, which issues nothing yet.
    AddAuthority,
    /// Have the newest authority issue a certificate.
    Issue,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        Self {
            authority: days(365),
            serving: days(90),
            overlap: days(1),
        }
    }
}

impl Lifetimes {
    /// Whether a certificate that an authority issues at the last moment ends before it, and whether one that waits for
    /// a new authority lasts until that may issue.
    pub(super) fn check(&self) -> Result<(), ProvisionError> {
        let Self {
            authority,
            serving,
            overlap,
        } = *self;
        let positive = serving > SignedDuration::ZERO && !overlap.is_negative();
        if positive && authority / 3 >= serving.saturating_add(overlap) && serving / 3 >= overlap {
            Ok(())
        } else {
            Err(ProvisionError::Lifetimes {
                authority,
                serving,
                overlap,
            })
        }
    }
}

impl Life {
    fn is_over(&self, now: Timestamp) -> bool {
        self.until <= now
    }

    /// Whether less than a third of it is left. The time before it was made is no part of it: a short life would be ending
    /// from its beginning.
    fn is_ending(&self, now: Timestamp) -> bool {
        let lasts = self.until.duration_since(self.from).saturating_sub(BACKDATED);
        self.until.duration_since(now) < lasts / 3
    }
}

impl Facts {
    /// The next step, if any. `trusted`: these authorities are known to whoever calls.
    ///
    /// *Trusted before used*: a certificate comes from an authority whose overlap is over and which is known, except when there is
    /// none that is of use.
    pub(super) fn next(
        &self,
        names: &[String],
        lifetimes: &Lifetimes,
        now: Timestamp,
        trusted: bool,
    ) -> Option<Step> {
        let Some(newest) = self.authorities.first().filter(|newest| !newest.is_over(now)) else {
            return Some(Step::Begin);
        };
        let certificate = &self.certificate;
        let named = names.iter().all(|name| certificate.names.contains(name));
        let issuer = certificate.issuer.and_then(|issuer| self.authorities.get(issuer));
        let of_use = named
            && !certificate.life.is_over(now)
            && certificate.life.from <= now
            && issuer.is_some_and(|issuer| !issuer.is_over(now));
        if !of_use {
            // Before a new authority is added: the newest one there is is known, as a rule.
            return Some(Step::Issue);
        }
        if self.authorities.iter().any(|authority| authority.is_over(now)) {
            return Some(Step::Forget);
        }
        // What the newest authority has issued it renews, too, as long as that prolongs anything: so a certificate is
        // good for the overlap when an authority is added.
        let of_newest = certificate.issuer == Some(0);
        if of_newest && certificate.life.is_ending(now) && certificate.life.until < newest.until {
            return Some(Step::Issue);
        }
        if newest.is_ending(now) {
            return Some(Step::AddAuthority);
        }
        let known_for = now.duration_since(newest.from).saturating_sub(BACKDATED);
        (!of_newest && trusted && known_for >= lifetimes.overlap).then_some(Step::Issue)
    }
}

/// What is to be kept instead of `current`, with the reason; none: it can stay as it is.
pub(super) fn advance(
    current: Option<&Material>,
    names: &[String],
    lifetimes: &Lifetimes,
    now: Timestamp,
    trusted: bool,
) -> Result<Option<Material>, ProvisionError> {
    let mut material = match current {
        Some(current) => current.clone(),
        None => {
            tracing::info!("making certificates for webhooks");
            return Material::new(names, lifetimes, now).map(Some);
        }
    };
    let mut trusted = trusted;
    // Each step has the next one follow or nothing; more than these few there are none.
    for _ in 0..4 {
        let step = match material.facts() {
            Ok(facts) => facts.next(names, lifetimes, now, trusted),
            Err(why) => {
                tracing::warn!(
                    why,
                    "the certificates of webhooks cannot be used, and are made anew"
                );
                Some(Step::Begin)
            }
        };
        let Some(step) = step else { break };
        tracing::info!(?step, "renewing certificates of webhooks");
        match step {
            Step::Begin => material = Material::new(names, lifetimes, now)?,
            Step::Forget => forget(&mut material, now),
            Step::AddAuthority => {
                material.add_authority(lifetimes, now)?;
                trusted = false;
            }
            Step::Issue => material.issue(names, lifetimes, now)?,
        }
    }
    Ok((Some(&material) != current).then_some(material))
}

fn forget(material: &mut Material, now: Timestamp) {
    let Ok(facts) = material.facts() else { return };
    let mut lives = facts.authorities.iter();
    material
        .authorities
        .retain(|_| lives.next().is_none_or(|life| !life.is_over(now)));
}
