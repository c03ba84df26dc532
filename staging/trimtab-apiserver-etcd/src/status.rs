//! How a cluster is, as its members say: `trimtab etcd status`.

use std::fmt;

use futures::future::join_all;
use trimtab_apiserver_storage::{EtcdAdmin, EtcdAlarm, EtcdMember, EtcdStatus};

use crate::access::Access;
use crate::certificates;
use crate::error::{Error, Result};

/// What is known of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    cluster: u64,
    members: Vec<MemberStatus>,
    alarms: Vec<EtcdAlarm>,
}

#[derive(Clone, Debug)]
struct MemberStatus {
    listed: EtcdMember,
    /// How it is, or why that is not known.
    state: std::result::Result<EtcdStatus, String>,
    /// URLs with the expiry of the certificate that is shown there.
    certificates: Vec<(String, Option<String>)>,
}

impl ClusterStatus {
    /// Asks these servers who is in the cluster, and then each member.
    ///
    /// # Errors
    ///
    /// When none of them answers.
    pub async fn of(servers: &[String], access: &Access) -> Result<Self> {
        let mut failed = Error::Usage("no servers are given".to_owned());
        for url in servers {
            let asked = async {
                let admin = access.admin(url)?;
                Ok::<_, Error>((admin.members().await?, admin.alarms().await?))
            };
            match asked.await {
                Ok((listed, alarms)) => {
                    let members = join_all(listed.into_iter().map(|m| look(m, servers, access))).await;
                    let answered = members.iter().find_map(|m| m.state.as_ref().ok());
                    return Ok(Self {
                        cluster: answered.map_or(0, |status| status.cluster),
                        members,
                        alarms,
                    });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Whether each member answers and has a leader, and no alarm is on.
    pub fn is_well(&self) -> bool {
        let well = |m: &MemberStatus| m.state.as_ref().is_ok_and(|status| status.leader != 0);
        self.alarms.is_empty() && self.members.iter().all(well)
    }

    fn name(&self, id: u64) -> String {
        let found = self.members.iter().find(|m| m.listed.id == id);
        found.map_or_else(|| format!("{id:x}"), |m| m.listed.name.clone())
    }
}

/// Asks a member where it says that it is, or where we were told that one is.
async fn look(listed: EtcdMember, servers: &[String], access: &Access) -> MemberStatus {
    let mut state = Err("it has not started yet: no client URL is known".to_owned());
    for url in listed.client_urls.iter().chain(servers) {
        let asked = async {
            let admin: EtcdAdmin = access.admin(url)?;
            let status = admin.status().await?;
            Ok::<_, Error>(status)
        };
        match asked.await {
            Ok(status) if status.member == listed.id => {
                state = Ok(status);
                break;
            }
            Ok(_) => {}
            // What the member's own URL says is worth more.
            Err(error) if listed.client_urls.contains(url) => state = Err(error.to_string()),
            Err(_) => {}
        }
    }
    let urls = listed.peer_urls.iter().chain(&listed.client_urls);
    let secure = urls.filter(|url| url.starts_with("https://")).cloned();
    let certificates = join_all(secure.map(|url| async {
        let until = certificates::shown_at(&url).await;
        (url, until)
    }));
    MemberStatus {
        certificates: certificates.await,
        listed,
        state,
    }
}

impl fmt::Display for ClusterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alarms: Vec<_> = self
            .alarms
            .iter()
            .map(|alarm| format!("{} of {}", alarm.kind, self.name(alarm.member)))
            .collect();
        let alarms = if alarms.is_empty() {
            "none".to_owned()
        } else {
            alarms.join(", ")
        };
        write!(
            f,
            "cluster  {:x}, {} members, alarms: {alarms}",
            self.cluster,
            self.members.len()
        )?;
        for member in &self.members {
            let listed = &member.listed;
            write!(f, "\nmember   {} ({:x})", listed.name, listed.id)?;
            match &member.state {
                Ok(status) => {
                    let role = match status.leader {
                        0 => "has no leader",
                        leader if leader == listed.id => "leads",
                        _ if listed.learner => "learns",
                        _ => "follows",
                    };
                    write!(
                        f,
                        ", etcd {}, {role}, revision {}, {} bytes ({} used)",
                        status.version, status.revision, status.size, status.used
                    )?;
                }
                Err(why) => write!(f, ": {why}")?,
            }
            write!(
                f,
                "\n         peers {}, clients {}",
                listed.peer_urls.join(" "),
                listed.client_urls.join(" ")
            )?;
            for (url, until) in &member.certificates {
                let until = until.as_deref().unwrap_or("not to be seen");
                write!(f, "\n         certificate at {url}: until {until}")?;
            }
        }
        Ok(())
    }
}
