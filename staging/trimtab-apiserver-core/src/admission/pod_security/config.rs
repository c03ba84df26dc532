//! What pod security demands where a namespace says nothing, and whom it does not concern.

use serde_json::Value;

use super::policy::{Level, Policy, Standard, Version};

/// As a `PodSecurityConfiguration` of pod-security.admission.config.k8s.io/v1 has it. By default nothing is demanded and
/// nobody exempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSecurityConfig {
    /// What is demanded where labels say nothing.
    pub defaults: Policy,
    /// What is not looked at.
    pub exemptions: Exemptions,
}

/// Whose pods are not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exemptions {
    /// Those that these users make.
    pub usernames: Vec<String>,
    /// Those with these runtime classes.
    pub runtime_classes: Vec<String>,
    /// Those in these namespaces.
    pub namespaces: Vec<String>,
}

const GROUP: &str = "pod-security.admission.config.k8s.io";

impl PodSecurityConfig {
    /// Reads a `PodSecurityConfiguration`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub fn read(config: &Value) -> Result<Self, String> {
        let version = config["apiVersion"].as_str().unwrap_or_default();
        let known = matches!(
            version.strip_prefix(GROUP),
            Some("/v1" | "/v1beta1" | "/v1alpha1")
        );
        if !known || config["kind"] != "PodSecurityConfiguration" {
            return Err(format!(
                "want a PodSecurityConfiguration of {GROUP}/v1, found {} of {version:?}",
                config["kind"]
            ));
        }
        let standard = |mode: &str| -> Result<Standard, String> {
            let field = |name: &str| match &config["defaults"][name] {
                Value::Null => Ok(None),
                Value::String(text) if text.is_empty() => Ok(None),
                Value::String(text) => Ok(Some(text.as_str())),
                other => Err(format!("defaults.{name}: {other} is not a string")),
            };
            let version = format!("{mode}-version");
            let level = field(mode)?.map_or(Ok(Level::Privileged), Level::parse);
            let as_of = field(&version)?.map_or(Ok(Version::Latest), Version::parse);
            Ok(Standard {
                level: level.map_err(|why| format!("defaults.{mode}: {why}"))?,
                version: as_of.map_err(|why| format!("defaults.{version}: {why}"))?,
            })
        };
        let names = |name: &str| -> Result<Vec<String>, String> {
            let wrong = || format!("exemptions.{name}: want a list of names");
            match &config["exemptions"][name] {
                Value::Null => Ok(Vec::new()),
                list => {
                    let list = list.as_array().ok_or_else(wrong)?;
                    let name = |n: &Value| n.as_str().filter(|n| !n.is_empty()).map(str::to_owned);
                    list.iter().map(|n| name(n).ok_or_else(wrong)).collect()
                }
            }
        };
        Ok(Self {
            defaults: Policy {
                enforce: standard("enforce")?,
                audit: standard("audit")?,
                warn: standard("warn")?,
            },
            exemptions: Exemptions {
                usernames: names("usernames")?,
                runtime_classes: names("runtimeClasses")?,
                namespaces: names("namespaces")?,
            },
        })
    }
}
