//! What a stage means for a member: its settings, and where it can be reached meanwhile.

use std::path::{Path, PathBuf};

use crate::environment::{Environment, Settings};
use crate::error::{Error, Result};
use crate::journal::{Journal, Record};
use crate::plan::{Names, Scheme, Stage, Strategy};

/// Settings that a member must have, since the tool has to know them and the defaults depend on too much.
const NEEDED: [&str; 6] = [
    "ETCD_NAME",
    "ETCD_DATA_DIR",
    "ETCD_LISTEN_PEER_URLS",
    "ETCD_LISTEN_CLIENT_URLS",
    "ETCD_ADVERTISE_CLIENT_URLS",
    "ETCD_INITIAL_ADVERTISE_PEER_URLS",
];

/// Checks what was found of a member.
pub(crate) fn check(environment: &Environment, path: &Path, name: &str, from: Scheme) -> Result<()> {
    let refused = |why: String| Error::Usage(format!("{}: {why}", path.display()));
    for needed in NEEDED {
        if environment.get(needed).is_none() {
            return Err(refused(format!(
                "{needed} is not set: settings of {name} have to be in this file"
            )));
        }
    }
    let told = environment.get("ETCD_NAME").unwrap_or_default();
    if told != name {
        return Err(refused(format!(
            "ETCD_NAME is {told}, and the member is described as {name}"
        )));
    }
    // A relative one would be another for who starts it from elsewhere.
    if !Path::new(environment.get("ETCD_DATA_DIR").unwrap_or_default()).is_absolute() {
        return Err(refused("ETCD_DATA_DIR has to be an absolute path".to_owned()));
    }
    for urls in &NEEDED[2..] {
        for url in list(environment, urls) {
            match Scheme::of(&url) {
                Some(scheme) if scheme == from => {}
                Some(scheme) => {
                    return Err(refused(format!(
                        "{urls} has {url}, which is {scheme} already; all of a member's URLs have to be {from}"
                    )));
                }
                None => {
                    return Err(refused(format!(
                        "{urls} has {url}, which is neither http nor https"
                    )));
                }
            }
        }
    }
    let extra = "ETCD_LISTEN_CLIENT_HTTP_URLS";
    if environment.get(extra).is_some() {
        return Err(refused(format!(
            "{extra} is set, which this tool does not know how to change"
        )));
    }
    Ok(())
}

/// A list of URLs in a member's settings.
pub(crate) fn list(environment: &Environment, name: &str) -> Vec<String> {
    let text = environment.get(name).unwrap_or_default();
    text.split(',')
        .map(|url| url.trim().to_owned())
        .filter(|url| !url.is_empty())
        .collect()
}

/// A URL without its scheme and path: `host`, and `port` where it has one.
pub(crate) fn host_and_port(url: &str) -> Option<(String, Option<u16>)> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.to_owned();
    Some((host, uri.port_u16()))
}

/// Where certificates are.
pub(crate) struct Files<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) member: &'a str,
}

impl Files<'_> {
    /// The authority, and the member's certificate and key.
    pub(crate) fn all(&self) -> [PathBuf; 3] {
        let member = self.member;
        [
            "ca.crt".to_owned(),
            format!("{member}.crt"),
            format!("{member}.key"),
        ]
        .map(|name| self.dir.join(name))
    }
}

impl Record {
    pub(crate) fn found(&self) -> Environment {
        Environment::new(self.environment.clone())
    }

    /// Where it keeps what it was found with.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.found().get("ETCD_DATA_DIR").unwrap_or_default().into()
    }

    /// Its peer URLs in the list of members.
    pub(crate) fn names(&self, names: Names, to: Scheme) -> Vec<String> {
        let new = self.peer_urls.iter().map(|url| to.apply(url));
        match names {
            Names::Old => self.peer_urls.clone(),
            Names::Both => self.peer_urls.iter().cloned().chain(new).collect(),
            Names::New => new.collect(),
        }
    }

    /// Its environment in a stage, with certificates from a directory.
    pub(crate) fn environment(&self, stage: Stage, journal: &Journal, certificates: &Path) -> Environment {
        let found = self.found();
        if stage == Stage::Before {
            return found;
        }
        let to = journal.to;
        let with = |name, schemes: &[Scheme]| {
            let urls = list(&found, name);
            let all = schemes
                .iter()
                .flat_map(|scheme| urls.iter().map(|url| scheme.apply(url)));
            Some(all.collect::<Vec<_>>().join(","))
        };
        let mut settings = Settings::new();
        let (peers, clients): (Scheme, &[Scheme]) = match stage {
            Stage::Both if journal.both => (Scheme::Http, &[to, to.other()]),
            Stage::Both => (Scheme::Http, &[to.other()]),
            Stage::Before | Stage::FencedBefore => (to.other(), &[to.other()]),
            Stage::After | Stage::FencedAfter => (to, &[to]),
        };
        for name in ["ETCD_LISTEN_PEER_URLS", "ETCD_INITIAL_ADVERTISE_PEER_URLS"] {
            settings.insert(name, with(name, &[peers]));
        }
        for name in ["ETCD_LISTEN_CLIENT_URLS", "ETCD_ADVERTISE_CLIENT_URLS"] {
            settings.insert(name, with(name, clients));
            if matches!(stage, Stage::FencedBefore | Stage::FencedAfter) {
                let fenced = list(&found, name).first().map(|url| self.fenced(url, clients[0]));
                settings.insert(name, fenced);
            }
        }
        if matches!(stage, Stage::After | Stage::FencedAfter)
            && let Some(cluster) = found.get("ETCD_INITIAL_CLUSTER")
        {
            let other = format!("={}://", to.other());
            settings.insert(
                "ETCD_INITIAL_CLUSTER",
                Some(cluster.replace(&other, &format!("={to}://"))),
            );
        }
        if journal.strategy == Strategy::Snapshot && matches!(stage, Stage::After | Stage::FencedAfter) {
            settings.insert("ETCD_DATA_DIR", Some(self.restored.display().to_string()));
            settings.insert("ETCD_WAL_DIR", None); // its log lies within
        }
        self.set_certificates(&mut settings, stage, to, certificates);
        found.with(&settings)
    }

    fn set_certificates(&self, settings: &mut Settings, stage: Stage, to: Scheme, dir: &Path) {
        let given = matches!(
            (to, stage),
            (Scheme::Https, Stage::Both | Stage::After | Stage::FencedAfter)
        );
        let taken = matches!((to, stage), (Scheme::Http, Stage::After | Stage::FencedAfter));
        if !given && !taken {
            return; // as it was found
        }
        let files = Files {
            dir,
            member: &self.name,
        };
        let [ca, certificate, key] = files.all().map(|path| given.then(|| path.display().to_string()));
        let on = given.then(|| "true".to_owned());
        for (name, value) in [
            ("ETCD_CERT_FILE", &certificate),
            ("ETCD_KEY_FILE", &key),
            ("ETCD_TRUSTED_CA_FILE", &ca),
            ("ETCD_CLIENT_CERT_AUTH", &on),
            ("ETCD_PEER_CERT_FILE", &certificate),
            ("ETCD_PEER_KEY_FILE", &key),
            ("ETCD_PEER_TRUSTED_CA_FILE", &ca),
            ("ETCD_PEER_CLIENT_CERT_AUTH", &on),
        ] {
            settings.insert(name, value.clone());
        }
        // What would be used instead of the files.
        for name in ["ETCD_AUTO_TLS", "ETCD_PEER_AUTO_TLS"] {
            settings.insert(name, None);
        }
    }

    fn fenced(&self, url: &str, scheme: Scheme) -> String {
        let host = host_and_port(url).map_or_else(|| "127.0.0.1".to_owned(), |(host, _)| host);
        format!("{scheme}://{host}:{}", self.fence)
    }

    /// Where the tool reaches it in a stage.
    pub(crate) fn client_url(&self, stage: Stage, journal: &Journal) -> String {
        let (to, found) = (journal.to, self.found());
        let url = list(&found, "ETCD_ADVERTISE_CLIENT_URLS")
            .into_iter()
            .next()
            .unwrap_or_default();
        match stage {
            Stage::Before => url,
            Stage::Both if journal.both => to.apply(&url),
            Stage::Both => to.other().apply(&url),
            Stage::After => to.apply(&url),
            Stage::FencedBefore => self.fenced(&url, to.other()),
            Stage::FencedAfter => self.fenced(&url, to),
        }
    }
}
