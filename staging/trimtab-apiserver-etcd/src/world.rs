//! The hands of the engine on real members: processes or units, files, and etcd's own interface.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use trimtab_apiserver_storage::{EtcdStore, Store as _};

use crate::access::Access;
use crate::backup::{self, NewMember, Restorer, Told};
use crate::certificates::{self, Wanted};
use crate::description::{Description, Running};
use crate::engine::Hands;
use crate::error::{Error, Result};
use crate::inventory::Inventory;
use crate::journal::{Home, Journal};
use crate::plan::{Names, Stage, Step};
use crate::runner;
use crate::stage::{host_and_port, list};
use crate::text;

const POLL: Duration = Duration::from_millis(50);
/// How long one look at a member may take.
const LOOK: Duration = Duration::from_secs(3);

pub(crate) struct World<'a> {
    pub(crate) home: Home,
    pub(crate) description: Description,
    pub(crate) access: Access,
    pub(crate) certificates: PathBuf,
    /// Whether certificates are made.
    pub(crate) make: bool,
    pub(crate) restore_with: Option<PathBuf>,
    /// How long a step waits for members to be well.
    pub(crate) patience: Duration,
    pub(crate) say: &'a mut (dyn FnMut(String) + Send),
    pub(crate) told: &'a mut Told<'a>,
}

impl Hands for World<'_> {
    async fn perform(&mut self, step: Step, journal: &mut Journal) -> Result<()> {
        match step {
            Step::Certificates => self.certify(journal),
            Step::Restart { member, to, .. } => {
                self.start(member, to, journal).await?;
                self.settle(journal).await
            }
            Step::Start { member, stage } => self.start(member, stage, journal).await,
            Step::Stop { member, .. } => {
                runner::stop(&self.running(member)?).await?;
                journal.members[member].stage = None;
                Ok(())
            }
            Step::Advertise { member, to, .. } => self.advertise(member, to, journal).await,
            Step::Save => self.save(journal).await,
            Step::Restore { member } => self.restore(member, journal).await,
            Step::Verify => self.verify(journal).await,
        }
    }

    fn keep(&mut self, journal: &Journal) -> Result<()> {
        self.home.save(journal)
    }

    fn tell(&mut self, journal: &Journal, number: usize, step: Step, back: bool) {
        let what = text::step(step, journal, &self.certificates);
        let way = if back { "back " } else { "" };
        (self.say)(format!("{way}{number}/{} {what}", journal.steps.len()));
    }
}

impl World<'_> {
    fn running(&self, member: usize) -> Result<Running> {
        self.description.members[member].running()
    }

    fn certify(&mut self, journal: &Journal) -> Result<()> {
        let wanted = journal
            .members
            .iter()
            .zip(&self.description.members)
            .map(|(record, described)| {
                let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
                let found = record.found();
                let urls = [
                    "ETCD_ADVERTISE_CLIENT_URLS",
                    "ETCD_LISTEN_CLIENT_URLS",
                    "ETCD_LISTEN_PEER_URLS",
                ];
                let urls = urls.iter().flat_map(|name| list(&found, name));
                for url in urls.chain(record.peer_urls.iter().cloned()) {
                    names.extend(
                        host_and_port(&url).map(|(host, _)| host.trim_matches(['[', ']']).to_owned()),
                    );
                }
                names.extend(described.names.iter().cloned());
                names.retain(|name| name != "0.0.0.0" && name != "::");
                names.sort();
                names.dedup();
                Wanted {
                    member: record.name.clone(),
                    names,
                    like: record.data_dir(),
                }
            });
        let wanted: Vec<Wanted> = wanted.collect();
        for line in certificates::prepare(&self.certificates, &wanted, self.make)? {
            (self.say)(format!("    {line}"));
        }
        Ok(())
    }

    /// Starts a member in a stage, from whichever it was in.
    async fn start(&mut self, member: usize, stage: Stage, journal: &mut Journal) -> Result<()> {
        let running = self.running(member)?;
        runner::stop(&running).await?;
        let environment = journal.members[member].environment(stage, journal, &self.certificates);
        environment.write(&self.description.members[member].environment)?;
        runner::start(&running, &environment).await?;
        journal.members[member].stage = Some(stage);
        Ok(())
    }

    /// Waits until each member that runs has its cluster, by the URL that it should be found by.
    async fn settle(&mut self, journal: &Journal) -> Result<()> {
        let until = Instant::now() + self.patience;
        for record in &journal.members {
            let Some(stage) = record.stage else { continue };
            let url = record.client_url(stage, journal);
            let name = &record.name;
            let well = self.until(until, || self.well(&url)).await;
            well.map_err(|error| {
                Error::Late(format!(
                    "{name} is not well at {url} after {} s: {error}; its log says more, and if it still answers as before, flags \
                     or a --config-file are stronger than its environment file",
                    self.patience.as_secs()
                ))
            })?;
        }
        Ok(())
    }

    async fn well(&self, url: &str) -> Result<()> {
        self.access.admin(url)?.health().await?;
        Ok(())
    }

    /// Tries until it succeeds or the time is up, and then answers with the last failure.
    async fn until<T, F>(&self, until: Instant, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            let late = || Error::Late("it does not answer".to_owned());
            let error = match timeout(LOOK, attempt()).await.unwrap_or_else(|_| Err(late())) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if Instant::now() >= until {
                return Err(error);
            }
            sleep(POLL).await;
        }
    }

    async fn advertise(&mut self, member: usize, to: Names, journal: &Journal) -> Result<()> {
        let record = &journal.members[member];
        let wanted = record.names(to, journal.to);
        let urls = self.urls(journal);
        let mut turn = urls.iter().cycle();
        let attempt = || {
            let url = turn.next().cloned().unwrap_or_default();
            let wanted = wanted.clone();
            let access = &self.access;
            async move {
                let admin = access.admin(&url)?;
                let members = admin.members().await?;
                let listed = members.iter().find(|m| m.name == record.name);
                let listed = listed.ok_or_else(|| {
                    Error::Differs(format!("{} is no longer a member of the cluster", record.name))
                })?;
                if same(&listed.peer_urls, &wanted) {
                    return Ok(());
                }
                admin.update_member(listed.id, wanted).await?;
                Err(Error::Late("the list of members is not changed yet".to_owned()))
            }
        };
        self.until(Instant::now() + self.patience, attempt).await?;
        self.settle(journal).await
    }

    /// Where the members that run are found.
    fn urls(&self, journal: &Journal) -> Vec<String> {
        let running = journal.members.iter().filter_map(|m| Some((m, m.stage?)));
        running
            .map(|(record, stage)| record.client_url(stage, journal))
            .collect()
    }

    async fn live(&mut self, journal: &Journal) -> Result<Inventory> {
        let store = EtcdStore::connect(self.access.config(&self.urls(journal))?).await?;
        let told = &mut self.told;
        let counted = |n, of| told(format!("comparing: {n} of {of} keys"));
        Ok(Inventory::of(store.snapshot().await?, counted).await?)
    }

    async fn save(&mut self, journal: &mut Journal) -> Result<()> {
        let urls = self.urls(journal);
        let url = urls
            .first()
            .ok_or_else(|| Error::Usage("no member runs".to_owned()))?;
        let admin = self.access.admin(url)?;
        // The member that is read from has everything that was acknowledged until here.
        let revision = admin.health().await?;
        let held = backup::save(&admin, &self.home.snapshot(journal), self.told).await?;
        if held.revision < revision {
            return Err(Error::Differs(format!(
                "the snapshot is of revision {}, and {revision} was acknowledged",
                held.revision
            )));
        }
        let live = self.live(journal).await?;
        held.check(&live, true)
            .map_err(|d| Error::Differs(format!("the snapshot is not what etcd holds: {d}")))?;
        if live.revision != held.revision && live.expiring.len() == held.expiring.len() {
            return Err(Error::Differs(format!(
                "somebody writes past the fence: the revision was {} and is {}",
                held.revision, live.revision
            )));
        }
        (self.say)(format!("    {held}"));
        journal.inventory = Some(held);
        Ok(())
    }

    async fn restore(&mut self, member: usize, journal: &Journal) -> Result<()> {
        let cluster: Vec<NewMember> = journal
            .members
            .iter()
            .map(|record| NewMember {
                name: record.name.clone(),
                peer_urls: record.names(Names::New, journal.to),
                data_dir: record.restored.clone(),
            })
            .collect();
        let beside = self.program(member);
        let restorer = Restorer::find(self.restore_with.as_deref(), beside.as_deref()).await?;
        let held = journal.inventory.as_ref().ok_or_else(lost)?;
        let like = journal.members[member].data_dir();
        let file = self.home.snapshot(journal);
        restorer
            .restore(&file, held, &cluster[member], &cluster, 0, Some(&like))
            .await?;
        Ok(())
    }

    /// The program of a member, where it is known.
    pub(crate) fn program(&self, member: usize) -> Option<PathBuf> {
        match self.running(member).ok()? {
            Running::Process(process) => Some(Path::new(process.command.first()?).to_owned()),
            Running::Commands { .. } => None,
        }
    }

    async fn verify(&mut self, journal: &Journal) -> Result<()> {
        self.settle(journal).await?;
        let live = self.live(journal).await?;
        let held = journal.inventory.as_ref().ok_or_else(lost)?;
        held.check(&live, true)
            .map_err(|d| Error::Differs(format!("what was restored is not what was saved: {d}")))?;
        (self.say)(format!("    {live}"));
        Ok(())
    }
}

fn lost() -> Error {
    Error::Usage("the state file has no inventory of the snapshot".to_owned())
}

/// Whether two lists name the same URLs: etcd sorts them.
fn same(a: &[String], b: &[String]) -> bool {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    sorted(a) == sorted(b)
}
