//! *Trusted before used*, over years of injected time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::super::{Clock, Lifetimes, Provisioner};
use super::material::{BEGIN, verify};
use crate::target::Target;

/// A program and the API server that calls it, which learns of new authorities late.
struct World {
    now: Arc<Mutex<Timestamp>>,
    provisioner: Provisioner,
    /// When which bundle was there to be learned.
    bundles: Vec<(Timestamp, String)>,
    /// How often authorities and certificates changed.
    changes: [usize; 2],
    shown: Vec<u8>,
}

impl World {
    fn new(lifetimes: Lifetimes) -> Self {
        let now = Arc::new(Mutex::new(BEGIN));
        let told = now.clone();
        let target = Target::service("web", "w");
        let provisioner = Provisioner::in_memory(&target)
            .clock(Clock::new(move || *told.lock()))
            .lifetimes(lifetimes)
            .expect("good lifetimes");
        Self {
            now,
            provisioner,
            bundles: Vec::new(),
            changes: [0, 0],
            shown: Vec::new(),
        }
    }

    async fn pass(&mut self, time: SignedDuration) {
        *self.now.lock() += time;
        self.provisioner.refresh().await.expect("certificates");
        let now = *self.now.lock();
        let bundle = self.provisioner.ca_bundle().expect("authorities");
        if self.bundles.last().is_none_or(|(_, last)| *last != bundle) {
            self.bundles.push((now, bundle));
            self.changes[0] += 1;
        }
        let shown = self.provisioner.certificates().current().expect("a certificate");
        if shown != self.shown {
            self.shown = shown;
            self.changes[1] += 1;
        }
    }

    /// The clause's checker: whoever knows the authorities that were there `lag` ago accepts the certificate.
    fn check_trusted_before_used(&self, lag: SignedDuration) -> Result<(), String> {
        let now = *self.now.lock();
        let known = self.bundles.iter().rev().find(|(since, _)| *since <= now - lag);
        // The first authorities are used at once.
        let (_, known) = known.unwrap_or(&self.bundles[0]);
        let certificate = pem(&self.shown);
        verify(known, &certificate, "w.web.svc", now)
            .map_err(|error| format!("Trusted before used: {error} at {now}, with a lag of {lag:#}"))
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

#[tokio::test]
async fn over_three_years_everybody_is_trusted_all_the_time() {
    let mut world = World::new(Lifetimes::default());
    for _ in 0..(3 * 365 / 2) {
        world.pass(hours(48)).await;
        for lag in [0, 23] {
            world
                .check_trusted_before_used(hours(lag))
                .expect("a trusted certificate");
        }
        let authorities = CertificateDer::pem_slice_iter(world.bundles.last().expect("one").1.as_bytes());
        assert!(authorities.count() <= 2, "old authorities are forgotten");
    }
    // Every 243 days an authority is added and, 122 days later, one is forgotten; every 60 days there is a certificate.
    assert!((8..=9).contains(&world.changes[0]), "{:?}", world.changes);
    assert!((18..=24).contains(&world.changes[1]), "{:?}", world.changes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However irregularly it is looked after, and however late authorities are learned: as long as nobody rests for longer
    /// than the last third of a certificate.
    #[test]
    fn irregular_care_is_enough(steps in prop::collection::vec((1..72_i64, 0..24_i64), 60)) {
        let lifetimes = Lifetimes { authority: hours(24 * 30), serving: hours(24 * 9), overlap: hours(24) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let checked: Result<(), String> = runtime.block_on(async {
            let mut world = World::new(lifetimes);
            for (step, lag) in steps {
                world.pass(hours(step)).await;
                world.check_trusted_before_used(hours(lag))?;
            }
            Ok(())
        });
        checked.map_err(TestCaseError::fail)?;
    }
}
