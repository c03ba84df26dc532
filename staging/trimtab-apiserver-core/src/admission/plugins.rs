//! Which plugins there are, in which order, and which of them are on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::dynamic::Surroundings;
use super::{
    AlwaysPullImages, Asked, CertificateApproval, CertificateSigning, CertificateSubject, Chain, ClaimResize,
    DefaultIngressClass, DefaultStorageClass, DefaultTolerations, DenyExternalIps, EventRateLimit,
    ExtendedResourceToleration, LimitAntiAffinity, LimitRanger, Limited, NamespaceExists, NamespaceLifecycle,
    NodeRestriction, OwnerPermissions, PodNodeSelector, PodResize, PodSecurity, PodSecurityConfig,
    PodTopologyLabels, Priority, RuntimeClass, ServiceAccounts, StorageProtection, TaintNodes,
    TolerationRestriction,
};

/// Whether a plugin of kube-apiserver's is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Unless it is disabled.
    On,
    /// If it is enabled.
    Off,
    /// It is not here. kube-apiserver has it on, most often for something that is off or not here either.
    Missed,
    /// It is not here, and cannot be enabled.
    Absent,
}

/// All plugins of kube-apiserver 1.36 in its order, and what becomes of them here. `StorageObjectInUseProtection` is on
/// there: without the controllers that take its finalizers away no claim could be deleted, and where they run they protect
/// what is not protected.
const KNOWN: [(&str, State); 41] = [
    ("AlwaysAdmit", State::Off),
    ("NamespaceAutoProvision", State::Absent),
    ("NamespaceLifecycle", State::On),
    ("NamespaceExists", State::Off),
    ("LimitPodHardAntiAffinityTopology", State::Off),
    ("LimitRanger", State::On),
    ("ServiceAccount", State::On),
    ("NodeRestriction", State::Off),
    ("TaintNodesByCondition", State::On),
    ("AlwaysPullImages", State::Off),
    ("ImagePolicyWebhook", State::Absent),
    ("PodSecurity", State::On),
    ("PodNodeSelector", State::Off),
    ("Priority", State::On),
    ("DefaultTolerationSeconds", State::On),
    ("PodTolerationRestriction", State::Off),
    ("EventRateLimit", State::Off),
    ("ExtendedResourceToleration", State::Off),
    ("DefaultStorageClass", State::On),
    ("StorageObjectInUseProtection", State::Off),
    ("PodGroupProtection", State::Missed),
    ("OwnerReferencesPermissionEnforcement", State::Off),
    ("PersistentVolumeClaimResize", State::On),
    ("RuntimeClass", State::On),
    ("CertificateApproval", State::On),
    ("CertificateSigning", State::On),
    ("ClusterTrustBundleAttest", State::Missed),
    ("CertificateSubjectRestriction", State::On),
    ("DefaultIngressClass", State::On),
    ("DenyServiceExternalIPs", State::Off),
    ("PodTopologyLabels", State::On),
    ("PodGroupWorkloadExists", State::Missed),
    ("NodeDeclaredFeatureValidator", State::Missed),
    ("JobValidation", State::Missed),
    ("PodResizeValidator", State::On),
    ("MutatingAdmissionPolicy", State::On),
    ("MutatingAdmissionWebhook", State::On),
    ("ValidatingAdmissionPolicy", State::On),
    ("ValidatingAdmissionWebhook", State::On),
    ("ResourceQuota", State::On),
    ("AlwaysDeny", State::Off),
];

/// Plugins that cannot be had as they are asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// Some names are unknown, or both enabled and disabled.
    #[error("{0}")]
    Names(String),
    /// The file with the configurations cannot be read.
    #[error("--admission-control-config-file {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// A configuration makes no sense.
    #[error("the admission plugin {plugin} cannot be configured: {why}")]
    Config {
        /// Whose.
        plugin: &'static str,
        /// What is wrong, and where.
        why: String,
    },
}

/// The plugins that are on, and their configurations.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugins {
    on: BTreeSet<&'static str>,
    configs: BTreeMap<String, Value>,
}

impl Default for Plugins {
    /// Those that are on unless something else is said, without configurations.
    fn default() -> Self {
        let on = KNOWN.iter().filter(|(_, state)| *state == State::On);
        Self {
            on: on.map(|(name, _)| *name).collect(),
            configs: BTreeMap::new(),
        }
    }
}

impl Plugins {
    /// All plugins of kube-apiserver in its order, and what becomes of them here: `on`, `off` until enabled, or `absent`.
    pub fn known() -> impl Iterator<Item = (&'static str, &'static str)> {
        KNOWN.iter().map(|(name, state)| {
            let state = match state {
                State::On => "on",
                State::Off => "off",
                State::Missed | State::Absent => "absent",
            };
            (*name, state)
        })
    }

    /// Those that are on by default, with these and without those; by kube-apiserver's names.
    ///
    /// # Errors
    ///
    /// [`PluginError::Names`], in kube-apiserver's words.
    pub fn choose(enable: &[String], disable: &[String]) -> Result<Self, PluginError> {
        let state = |name: &String| KNOWN.iter().find(|(known, _)| known == name);
        let mut faults = Vec::new();
        let mut plugins = Self::default();
        for name in enable {
            match state(name) {
                None => faults.push(format!("enable-admission-plugins plugin {name:?} is unknown")),
                Some((_, State::Absent)) => faults.push(format!(
                    "enable-admission-plugins plugin {name:?} is not in this server"
                )),
                Some((_, State::Missed)) => {}
                Some((name, State::On | State::Off)) => drop(plugins.on.insert(name)),
            }
        }
        for name in disable {
            if state(name).is_none() {
                faults.push(format!("disable-admission-plugins plugin {name:?} is unknown"));
            }
            plugins.on.remove(name.as_str());
        }
        let both: BTreeSet<&str> = enable
            .iter()
            .filter(|name| disable.contains(name))
            .map(String::as_str)
            .collect();
        if !both.is_empty() {
            let both: Vec<&str> = both.into_iter().collect();
            faults.push(format!(
                "[{}] in enable-admission-plugins and disable-admission-plugins overlapped",
                both.join(" ")
            ));
        }
        match faults.as_slice() {
            [] => Ok(plugins),
            [one] => Err(PluginError::Names(one.clone())),
            many => Err(PluginError::Names(format!("[{}]", many.join(", ")))),
        }
    }

    /// The same plugins with the configurations of an `AdmissionConfiguration` of apiserver.config.k8s.io/v1 in a file.
    ///
    /// # Errors
    ///
    /// When the file, or one that it names, cannot be read.
    pub fn configured(mut self, path: &Path) -> Result<Self, PluginError> {
        let wrong = |path: &Path, why: &dyn fmt::Display| PluginError::File {
            path: path.display().to_string(),
            why: why.to_string(),
        };
        let read = |path: &Path| -> Result<Value, PluginError> {
            let text = std::fs::read_to_string(path).map_err(|e| wrong(path, &e))?;
            serde_saphyr::from_str(&text).map_err(|e| wrong(path, &e))
        };
        let config = read(path)?;
        if config["kind"] != "AdmissionConfiguration" {
            return Err(wrong(
                path,
                &"want an AdmissionConfiguration of apiserver.config.k8s.io/v1",
            ));
        }
        for plugin in config["plugins"].as_array().into_iter().flatten() {
            let name = plugin["name"].as_str().unwrap_or_default();
            let config = match plugin["path"].as_str().filter(|file| !file.is_empty()) {
                // Relative to the file that names it.
                Some(file) => read(&path.parent().unwrap_or(Path::new("")).join(file))?,
                None => plugin["configuration"].clone(),
            };
            if !config.is_null() {
                self.configs.insert(name.to_owned(), config);
            }
        }
        Ok(self)
    }

    /// What needs a quota that covers it, by the configuration of `ResourceQuota`.
    pub(crate) fn limited(&self) -> Result<Limited, PluginError> {
        let plugin = "ResourceQuota";
        match self.configs.get(plugin) {
            Some(config) => Limited::read(config).map_err(|why| PluginError::Config { plugin, why }),
            None => Ok(Limited::default()),
        }
    }

    /// Whether a plugin is on.
    pub fn has(&self, name: &str) -> bool {
        self.on.contains(name)
    }
}

impl Chain {
    /// The plugins that are on, in order.
    ///
    /// # Errors
    ///
    /// [`PluginError::Config`].
    pub(crate) fn of(plugins: &Plugins, around: &Surroundings) -> Result<Self, PluginError> {
        let mut chain = Self {
            asked: Asked {
                mutating_policies: plugins.has("MutatingAdmissionPolicy"),
                mutating_webhooks: plugins.has("MutatingAdmissionWebhook"),
                validating_policies: plugins.has("ValidatingAdmissionPolicy"),
                validating_webhooks: plugins.has("ValidatingAdmissionWebhook"),
            },
            denies: plugins.has("AlwaysDeny"),
            ..Self::default()
        };
        for (name, _) in KNOWN {
            if plugins.has(name) {
                let config = plugins.configs.get(name).unwrap_or(&Value::Null);
                chain = chain
                    .with(name, around, config)
                    .map_err(|why| PluginError::Config { plugin: name, why })?
                    .named(name);
            }
        }
        Ok(chain)
    }

    /// The same chain with the plugin of that name at its end.
    fn with(self, name: &str, around: &Surroundings, config: &Value) -> Result<Self, String> {
        let reader = || around.reader.clone();
        let authorizer = || around.authorizer.clone();
        Ok(match name {
            "NamespaceLifecycle" => self.then(NamespaceLifecycle::new(reader())),
            "NamespaceExists" => self.then(NamespaceExists::new(reader())),
            "LimitPodHardAntiAffinityTopology" => self.then(LimitAntiAffinity),
            "LimitRanger" => self.then(LimitRanger::new(reader())),
            "ServiceAccount" => self.then(ServiceAccounts::new(reader(), around.entropy.clone())),
            "NodeRestriction" => self.then(NodeRestriction::new(reader(), authorizer())),
            "TaintNodesByCondition" => self.then(TaintNodes),
            "AlwaysPullImages" => self.then(AlwaysPullImages),
            "PodSecurity" => {
                let config = match config {
                    Value::Null => PodSecurityConfig::default(),
                    config => PodSecurityConfig::read(config)?,
                };
                self.then(PodSecurity::new(reader(), config))
            }
            "PodNodeSelector" => {
                let selectors = &config["podNodeSelectorPluginConfig"];
                self.then(PodNodeSelector::new(reader(), selectors)?)
            }
            "Priority" => self.then(Priority::new(reader())),
            "DefaultTolerationSeconds" => self.then(DefaultTolerations),
            "PodTolerationRestriction" => self.then(TolerationRestriction::new(reader(), config)?),
            "EventRateLimit" => match config {
                Value::Null => return Err("it needs limits, by --admission-control-config-file".to_owned()),
                config => self.then(EventRateLimit::new(config)?),
            },
            "ExtendedResourceToleration" => self.then(ExtendedResourceToleration),
            "DefaultStorageClass" => self.then(DefaultStorageClass::new(reader())),
            "StorageObjectInUseProtection" => self.then(StorageProtection),
            "OwnerReferencesPermissionEnforcement" => {
                self.then(OwnerPermissions::new(authorizer(), around.resources.clone()))
            }
            "PersistentVolumeClaimResize" => self.then(ClaimResize::new(reader())),
            "RuntimeClass" => self.then(RuntimeClass::new(reader())),
            "CertificateApproval" => self.then(CertificateApproval::new(authorizer())),
            "CertificateSigning" => self.then(CertificateSigning::new(authorizer())),
            "CertificateSubjectRestriction" => self.then(CertificateSubject),
            "DefaultIngressClass" => self.then(DefaultIngressClass::new(reader())),
            "DenyServiceExternalIPs" => self.then(DenyExternalIps),
            "PodTopologyLabels" => self.then(PodTopologyLabels::new(reader())),
            "PodResizeValidator" => self.then(PodResize::new(reader())),
            // Webhooks, policies, quotas and the denial come last, and from elsewhere; AlwaysAdmit does nothing.
            _ => self,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn plugins_are_chosen_by_kube_apiservers_names() {
        let chosen = Plugins::choose(
            &names(&["NodeRestriction", "PodSecurity", "JobValidation"]),
            &names(&["LimitRanger", "AlwaysDeny", "ImagePolicyWebhook"]),
        )
        .expect("chosen");
        for (name, wanted) in [
            ("NodeRestriction", true),
            ("PodSecurity", true),
            ("Priority", true),
            ("LimitRanger", false),
            ("AlwaysPullImages", false),
            ("AlwaysDeny", false),
        ] {
            assert_eq!(chosen.has(name), wanted, "{name}");
        }
    }

    #[test]
    fn names_that_make_no_sense_are_told_in_kube_apiservers_words() {
        for (enable, disable, wanted) in [
            (
                &["X"][..],
                &[][..],
                "enable-admission-plugins plugin \"X\" is unknown",
            ),
            (&[], &["X"], "disable-admission-plugins plugin \"X\" is unknown"),
            (
                &["Priority", "AlwaysDeny"],
                &["Priority", "AlwaysDeny"],
                "[AlwaysDeny Priority] in enable-admission-plugins and disable-admission-plugins overlapped",
            ),
            (
                &["X", "ImagePolicyWebhook"],
                &[],
                "[enable-admission-plugins plugin \"X\" is unknown, enable-admission-plugins plugin \"ImagePolicyWebhook\" is not in this server]",
            ),
        ] {
            let error = Plugins::choose(&names(enable), &names(disable)).expect_err("refused");
            assert_eq!(error.to_string(), wanted);
        }
    }

    #[tokio::test]
    async fn configurations_are_in_the_file_or_beside_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        write("selectors.yaml", "podNodeSelectorPluginConfig: {ns: a=b}");
        let main = write(
            "main.yaml",
            "
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- {name: PodSecurity, configuration: {kind: PodSecurityConfiguration}}
- {name: PodNodeSelector, path: selectors.yaml}
",
        );
        let plugins = Plugins::default().configured(&main).expect("read");
        assert_eq!(plugins.configs["PodSecurity"]["kind"], "PodSecurityConfiguration");
        assert_eq!(
            plugins.configs["PodNodeSelector"]["podNodeSelectorPluginConfig"]["ns"],
            "a=b"
        );
        let around = crate::admission::tests::around();
        let error = Chain::of(&plugins, &around).expect_err("no version");
        assert!(
            error
                .to_string()
                .starts_with("the admission plugin PodSecurity cannot be configured: want a"),
            "{error}"
        );
        let plugins = Plugins::choose(&names(&["EventRateLimit"]), &[]).expect("chosen");
        assert!(Chain::of(&plugins, &around).is_err(), "needs limits");
        for (name, text) in [("other.yaml", "kind: Other"), ("bad.yaml", "plugins: [")] {
            let error = Plugins::default()
                .configured(&write(name, text))
                .expect_err("refused");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[tokio::test]
    async fn every_plugin_that_can_be_on_is_there() {
        let around = crate::admission::tests::around();
        // These are not links of the chain.
        let apart = [
            "AlwaysAdmit",
            "MutatingAdmissionPolicy",
            "MutatingAdmissionWebhook",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionWebhook",
            "ResourceQuota",
            "AlwaysDeny",
            "EventRateLimit",
        ];
        for (name, state) in KNOWN {
            let links = Chain::default()
                .with(name, &around, &Value::Null)
                .map_or(0, |chain| chain.plugins.len());
            let wanted = matches!(state, State::On | State::Off) && !apart.contains(&name);
            assert_eq!(links == 1, wanted, "{name}");
        }
    }
}
