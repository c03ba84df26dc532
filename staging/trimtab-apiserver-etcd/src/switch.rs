//! `trimtab etcd switch-transport`: what it is told, what it finds, and what it does about it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use crate::access::Access;
use crate::backup::{Restorer, Told};
use crate::description::Description;
use crate::durable;
use crate::engine::{self, Ended};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::journal::{Direction, Home, Journal, Record};
use crate::plan::{Scheme, Stage, Strategy, steps};
use crate::stage::{self, host_and_port, list};
use crate::text;
use crate::world::World;

/// The command line of changing a cluster's transport.
#[derive(Clone, Debug, Args)]
pub struct SwitchOptions {
    /// How etcd is to be reached, by clients and by its members
    #[arg(long)]
    pub to: Scheme,

    /// One member after the other while clients go on, or all from a snapshot while clients wait
    #[arg(long, default_value = "rolling")]
    pub strategy: Strategy,

    /// The description of the members: how each is started and stopped, and with which settings
    #[arg(long, value_name = "FILE", conflicts_with = "member")]
    pub cluster: Option<PathBuf>,

    /// A member, instead of a description: name=NAME,environment=FILE and one of unit=UNIT, command=…,pid-file=…,log-file=…,
    /// or start=…,stop=…
    #[arg(long, value_name = "SETTINGS")]
    pub member: Vec<String>,

    /// Where the state of the change is kept, to go on from after a crash, and its snapshot
    #[arg(long, default_value = "etcd-switch", value_name = "DIR")]
    pub state: PathBuf,

    /// Only say what would be done
    #[arg(long)]
    pub plan: bool,

    /// Make the certificates that are missing in --certificates: an authority, one for each member and one for clients
    #[arg(long, requires = "certificates")]
    pub make_certificates: bool,

    /// Stop before clients of the old scheme are shut out; the same command without it goes on
    #[arg(long)]
    pub hold: bool,

    /// Take back what an unfinished change has done
    #[arg(long, conflicts_with_all = ["plan", "hold"])]
    pub roll_back: bool,

    /// The program that restores snapshots [default: etcdutl or etcdctl, beside etcd or on the path]
    #[arg(long, value_name = "PROGRAM")]
    pub restore_with: Option<PathBuf>,

    /// How many seconds a step waits for all members to be well, before it is taken back
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub patience: u64,

    /// How to reach etcd
    #[command(flatten)]
    pub access: Access,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Switched {
    /// There was nothing to do.
    Already,
    /// The plan was said.
    Planned,
    /// It has ended.
    Ended(Ended),
}

impl SwitchOptions {
    /// Changes the transport, or goes on with it. `say` gets the lines for people, `told` how far something long has come.
    ///
    /// # Errors
    ///
    /// When it cannot begin, with nothing touched; or when it can neither go on nor back: then the same command goes on
    /// from there, once what it says is mended.
    pub async fn run<'a>(
        &self,
        say: &'a mut (dyn FnMut(String) + Send),
        told: &'a mut Told<'a>,
    ) -> Result<Switched> {
        let description = match &self.cluster {
            Some(file) => Description::read(file)?,
            None => Description::of_flags(&self.member)?,
        };
        let mut access = self.access.clone();
        // Units do not share our working directory.
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(Error::file(path));
        access.certificates = access.certificates.as_ref().map(absolute).transpose()?;
        let certificates = access.certificates.clone().unwrap_or_default();
        if self.to == Scheme::Https && access.certificates.is_none() {
            return Err(Error::Usage(
                "https needs certificates: name their directory with --certificates, and say --make-certificates to have them made"
                    .to_owned(),
            ));
        }
        let home = Home::open(&self.state)?;
        let mut found = home.load()?;
        if let Some(old) = found.take_if(|journal| journal.finished) {
            home.archive(&old)?;
        }
        if let Some(unfinished) = &found {
            self.check_same(unfinished, &description)?;
        }
        let unfinished = found.is_some();
        let Some(mut journal) = (match found {
            Some(journal) => Some(journal),
            None if self.roll_back => {
                return Err(Error::Usage(format!(
                    "nothing is unfinished in {}",
                    self.state.display()
                )));
            }
            None => self.find(&description, &access).await?,
        }) else {
            return Ok(Switched::Already);
        };
        if unfinished {
            let (done, of) = (journal.done, journal.steps.len());
            say(format!(
                "going on with {}: {done} of {of} steps are done",
                journal.id
            ));
        }
        if self.plan {
            for (n, step) in journal.steps.iter().enumerate() {
                let done = if n < journal.done { ", done" } else { "" };
                say(format!(
                    "{}/{} {}{done}",
                    n + 1,
                    journal.steps.len(),
                    text::step(*step, &journal, &certificates)
                ));
            }
            return Ok(Switched::Planned);
        }
        if journal.strategy == Strategy::Snapshot && !unfinished {
            let program = match description.members[0].running()? {
                crate::description::Running::Process(process) => process.command.first().map(PathBuf::from),
                crate::description::Running::Commands { .. } => None,
            };
            // Better now than with the members stopped.
            Restorer::find(self.restore_with.as_deref(), program.as_deref()).await?;
        }
        if self.roll_back && journal.direction == Direction::Forward {
            if !journal.can_go_back() {
                return Err(Error::Usage(
                    "clients may have written to the new members already, which would be lost: go on with it instead".to_owned(),
                ));
            }
            journal.turn_back("it was asked to be taken back".to_owned());
        }
        let mut world = World {
            home,
            description,
            access,
            certificates,
            make: self.make_certificates,
            restore_with: self.restore_with.clone(),
            patience: Duration::from_secs(self.patience),
            say,
            told,
        };
        let ended = engine::drive(&mut journal, &mut world, self.hold).await?;
        Ok(Switched::Ended(ended))
    }

    fn check_same(&self, unfinished: &Journal, description: &Description) -> Result<()> {
        let names = |journal: &Journal| journal.members.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
        let described: Vec<_> = description.members.iter().map(|m| m.name.clone()).collect();
        if unfinished.to != self.to || names(unfinished) != described {
            return Err(Error::Usage(format!(
                "{} has an unfinished change to {} of {}: finish it with --to {} or take it back with --roll-back",
                self.state.display(),
                unfinished.to,
                names(unfinished).join(", "),
                unfinished.to
            )));
        }
        Ok(())
    }

    /// Looks at the members and plans; nothing when all is as it should be.
    async fn find(&self, description: &Description, access: &Access) -> Result<Option<Journal>> {
        let from = self.to.other();
        let now = Timestamp::now();
        let id = now.strftime("%Y%m%d-%H%M%S").to_string();
        let mut members = Vec::new();
        let mut already = 0;
        for member in &description.members {
            let environment = Environment::read(&member.environment)?;
            let urls =
                ["ETCD_LISTEN_PEER_URLS", "ETCD_LISTEN_CLIENT_URLS"].map(|name| list(&environment, name));
            let is_new = |url: &String| Scheme::of(url) == Some(self.to);
            if urls
                .iter()
                .all(|urls| !urls.is_empty() && urls.iter().all(is_new))
            {
                already += 1;
                continue;
            }
            stage::check(&environment, &member.environment, &member.name, from)?;
            let data_dir = PathBuf::from(environment.get("ETCD_DATA_DIR").unwrap_or_default());
            members.push(Record {
                name: member.name.clone(),
                restored: durable::beside(&data_dir, &format!("-{}-{id}", self.to)),
                fence: free_port(&environment)?,
                environment: environment.text().to_owned(),
                peer_urls: Vec::new(),
                stage: Some(Stage::Before),
            });
        }
        if already == description.members.len() {
            return Ok(None);
        }
        if already > 0 {
            return Err(Error::Usage(format!(
                "{already} of {} members are by {} already, and no state of a change is in {}",
                description.members.len(),
                self.to,
                self.state.display()
            )));
        }
        let mut journal = Journal::new(id, self.to, self.strategy, members);
        let order = look(&mut journal, access).await?;
        journal.steps = steps(self.strategy, self.to, &order);
        Ok(Some(journal))
    }
}

/// Asks the members how they are, and answers in which order to go: the leader last, so that it changes least.
async fn look(journal: &mut Journal, access: &Access) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = (0..journal.members.len()).collect();
    for n in 0..journal.members.len() {
        let url = journal.members[n].client_url(Stage::Before, journal);
        let admin = access.admin(&url)?;
        admin.health().await?;
        let status = admin.status().await?;
        let listed = admin.members().await?;
        let name = &journal.members[n].name;
        let refused = |why: String| Error::Usage(format!("{name} at {url}: {why}"));
        let mut names: Vec<_> = listed.iter().map(|m| m.name.clone()).collect();
        let mut described: Vec<_> = journal.members.iter().map(|m| m.name.clone()).collect();
        names.sort();
        described.sort();
        if names != described {
            return Err(refused(format!(
                "the members of the cluster are {}, and {} are described",
                names.join(", "),
                described.join(", ")
            )));
        }
        if let Some(alarm) = admin.alarms().await?.first() {
            return Err(refused(format!(
                "the alarm {} is on: see to it first",
                alarm.kind
            )));
        }
        let own = listed
            .into_iter()
            .find(|m| m.id == status.member && m.name == *name);
        let own = own.ok_or_else(|| refused("another member answers there".to_owned()))?;
        if own.learner {
            return Err(refused("it is a learner: promote or remove it first".to_owned()));
        }
        if let Some(other) = own
            .peer_urls
            .iter()
            .find(|url| Scheme::of(url) != Some(journal.to.other()))
        {
            return Err(refused(format!(
                "its peers find it at {other}, and its settings say {}",
                journal.to.other()
            )));
        }
        if status.leader == status.member {
            order.retain(|other| *other != n);
            order.push(n);
        }
        journal.both &= serves_both(&status.version);
        journal.members[n].peer_urls = own.peer_urls;
    }
    Ok(order)
}

/// Whether clients can be served by http and https on one port: from 3.5 on. 3.4 takes the settings too, but then answers by
/// either as it happens.
fn serves_both(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (3, 5)
}

/// A port on which a member can be reached while clients cannot.
fn free_port(environment: &Environment) -> Result<u16> {
    let urls = list(environment, "ETCD_LISTEN_CLIENT_URLS");
    let host = urls
        .first()
        .and_then(|url| host_and_port(url))
        .map(|(host, _)| host);
    let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
    let bound = TcpListener::bind((host.trim_matches(['[', ']']), 0));
    bound
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| {
            Error::Usage(format!(
                "no free port at {host}: {e}; the members have to be on this machine"
            ))
        })
}
