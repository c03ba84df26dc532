//! A table: which elections can work.

use std::time::Duration;

use crate::leader::{ElectionConfig, Timing};

fn timing(lease_duration: u64, renew_deadline: u64, retry_period: u64) -> Timing {
    Timing {
        lease_duration: Duration::from_millis(lease_duration),
        renew_deadline: Duration::from_millis(renew_deadline),
        retry_period: Duration::from_millis(retry_period),
    }
}

#[test]
fn only_what_can_work_is_taken() {
    const DURATION: &str = "and must be whole seconds from 1 to 2147483647";
    let good = ElectionConfig::new("good");
    let with_timing = |timing| ElectionConfig {
        timing,
        ..good.clone()
    };
    let cases = [
        (good.clone(), ""),
        (with_timing(timing(1_000, 500, 100)), ""),
        (with_timing(timing(0, 0, 0)), DURATION),
        (with_timing(timing(1_500, 500, 100)), DURATION),
        (with_timing(timing(900, 500, 100)), DURATION),
        (with_timing(timing((1 << 31) * 1_000, 500, 100)), DURATION),
        (
            with_timing(timing(15_000, 15_000, 100)),
            "renew deadline is 15s, and must be less",
        ),
        (
            with_timing(timing(15_000, 2_400, 2_000)),
            "retry period is 2s, and must be more than 0",
        ),
        (with_timing(timing(15_000, 2_401, 2_000)), ""),
        (with_timing(timing(15_000, 10_000, 0)), "retry period is 0ns"),
        (
            ElectionConfig {
                name: "Not_a_name".into(),
                ..good.clone()
            },
            "lease is \"Not_a_name\", which a lowercase",
        ),
        (
            ElectionConfig {
                namespace: Some("a.b".into()),
                ..good.clone()
            },
            "lease is \"a.b\", which must not",
        ),
        (
            ElectionConfig {
                identity: String::new(),
                ..good.clone()
            },
            "give each candidate a name",
        ),
    ];
    for (config, expected) in cases {
        let told = config.validate().map_or_else(
            |error| {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                format!("{error}: {}", source.unwrap_or_default())
            },
            |()| String::new(),
        );
        let as_expected = told.contains(expected) && told.is_empty() == expected.is_empty();
        assert!(as_expected, "{config:?}: {told:?}, not {expected:?}");
    }
    assert_ne!(
        good.identity,
        ElectionConfig::new("good").identity,
        "each candidate is another one"
    );
}
