//! What a namespace demands of its pods: a level and a version of the standards, for each of three modes.

use std::fmt;

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath};

/// How much pods are held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// To nothing.
    #[default]
    Privileged,
    /// To what keeps known ways of becoming more than one is closed.
    Baseline,
    /// To what is good practice, too.
    Restricted,
}

/// Which version of the standards is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// As of this minor version of Kubernetes 1.
    Minor(u32),
    /// The newest that is known.
    #[default]
    Latest,
}

/// A level as of a version, written as `restricted:latest` or `baseline:v1.29`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standard {
    /// How much is asked for.
    pub level: Level,
    /// As of when.
    pub version: Version,
}

/// What is refused, what is logged and what is warned of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate it are refused.
    pub enforce: Standard,
    /// Pods and their templates that violate it are logged.
    pub audit: Standard,
    /// Who makes pods or templates that violate it is warned.
    pub warn: Standard,
}

const PREFIX: &str = "pod-security.kubernetes.io/";

// === impl Level ===

impl Level {
    /// Reads `privileged`, `baseline` or `restricted`.
    ///
    /// # Errors
    ///
    /// What would do.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

// === impl Version ===

impl Version {
    /// Reads `latest` or `v1.29`.
    ///
    /// # Errors
    ///
    /// What would do.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let minor = text.strip_prefix("v1.").filter(|minor| {
            minor.bytes().all(|b| b.is_ascii_digit()) && (*minor == "0" || !minor.starts_with('0'))
        });
        minor
            .and_then(|minor| minor.parse().ok())
            .map(Self::Minor)
            .ok_or("must be \"latest\" or \"v1.x\"")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Minor(minor) => write!(f, "v1.{minor}"),
        }
    }
}

// === impl Standard ===

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

// === impl Policy ===

impl Policy {
    /// What the labels of a namespace demand, over what is demanded where they say nothing; with what is wrong with them.
    /// A level that cannot be read counts as restricted where it is enforced, and as none elsewhere.
    pub fn of(namespace: &Value, defaults: &Self) -> (Self, Vec<FieldError>) {
        let (mut policy, mut errors) = (*defaults, Vec::new());
        let labels = &namespace["metadata"]["labels"];
        let label = |name: &str| {
            let key = format!("{PREFIX}{name}");
            labels[&key].as_str().map(|text| (key, text))
        };
        let mut wrong = |key: &str, text: &str, why| {
            let path = FieldPath::new("metadata").child("labels").key(key);
            errors.push(FieldError::invalid(&path, text, why));
        };
        if labels.as_object().is_none_or(serde_json::Map::is_empty) {
            return (policy, errors);
        }
        let mut enforced = false;
        for (mode, standard, otherwise) in [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ] {
            if let Some((key, text)) = label(mode) {
                let level = Level::parse(text);
                enforced |= mode == "enforce" && level.is_ok();
                standard.level = level.unwrap_or_else(|why| {
                    wrong(&key, text, why);
                    otherwise
                });
            }
            if let Some((key, text)) = label(&format!("{mode}-version")) {
                standard.version = Version::parse(text).unwrap_or_else(|why| {
                    wrong(&key, text, why);
                    Version::Latest
                });
            }
        }
        // What is refused in pods is warned of in templates, which are not refused.
        if enforced && label("warn").is_none() && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if label("warn-version").is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// Whether nothing is demanded.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|standard| standard.level == Level::Privileged)
    }

    /// Whether both come to the same.
    fn is_equivalent(&self, other: &Self) -> bool {
        let same = |a: Standard, b: Standard| {
            a == b || (a.level == Level::Privileged && b.level == Level::Privileged)
        };
        same(self.enforce, other.enforce) && same(self.audit, other.audit) && same(self.warn, other.warn)
    }

    /// What to say of an exempt namespace whose labels demand something.
    pub(super) fn ignored(&self, name: &str, namespace: &Value, defaults: &Self) -> Option<String> {
        if self.is_privileged() || self.is_equivalent(defaults) {
            return None;
        }
        let labels = &namespace["metadata"]["labels"];
        let said = |mode: &str| {
            !labels[format!("{PREFIX}{mode}")].is_null()
                || !labels[format!("{PREFIX}{mode}-version")].is_null()
        };
        let modes = [
            ("enforce", self.enforce),
            ("audit", self.audit),
            ("warn", self.warn),
        ];
        let modes: Vec<String> = modes
            .into_iter()
            .filter(|(mode, standard)| standard.level != Level::Privileged && said(mode))
            .map(|(mode, standard)| format!("{mode}={standard}"))
            .collect();
        Some(format!(
            "namespace {name:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            modes.join(", ")
        ))
    }
}
