//! Steps in words.

use std::path::Path;

use crate::journal::Journal;
use crate::plan::{Names, Stage, Step};

/// What a step does.
pub(crate) fn step(step: Step, journal: &Journal, certificates: &Path) -> String {
    let name = |member: usize| journal.members[member].name.as_str();
    match step {
        Step::Certificates => format!("certificates in {}", certificates.display()),
        Step::Restart { member, to, .. } => format!("restart {}: {}", name(member), stage(to, journal)),
        Step::Start { member, stage: to } => format!("start {}: {}", name(member), stage(to, journal)),
        Step::Stop { member, .. } => format!("stop {}", name(member)),
        Step::Advertise { member, to, .. } => {
            let urls = journal.members[member].names(to, journal.to).join(" and ");
            let list = match to {
                Names::Old | Names::New => "",
                Names::Both => ", whichever answers",
            };
            format!("list {} as {urls}{list}", name(member))
        }
        Step::Save => "save a snapshot and check its hash".to_owned(),
        Step::Restore { member } => {
            let record = &journal.members[member];
            format!(
                "restore {} into {}; {} stays as it is",
                record.name,
                record.restored.display(),
                record.data_dir().display()
            )
        }
        Step::Verify => "compare revision, keys, values and expiring keys with the snapshot".to_owned(),
    }
}

fn stage(stage: Stage, journal: &Journal) -> String {
    let (to, from) = (journal.to, journal.to.other());
    match stage {
        Stage::Before => "as it was found".to_owned(),
        Stage::Both if journal.both => "peers by http, clients by http and https".to_owned(),
        Stage::Both => format!("peers by http, clients by {from} still"),
        Stage::After => format!("peers and clients by {to}"),
        Stage::FencedBefore => "as it was found, without clients".to_owned(),
        Stage::FencedAfter => format!("restored, peers by {to}, without clients"),
    }
}
