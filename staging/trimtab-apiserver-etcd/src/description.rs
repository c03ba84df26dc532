//! What the tool is told of a cluster: how each member is started and stopped, and with which settings.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The members of a cluster, as the description file has them (YAML).
///
/// ```yaml
/// members:
/// - name: m0
///   environment: /etc/default/etcd    # NAME=VALUE lines with the member's ETCD_* settings: rewritten by the tool
///   unit: etcd.service                # restarted with systemctl; or instead of it:
/// - name: m1
///   environment: m1.env
///   process:                          # started by the tool itself, with what the environment file says
///     command: [/usr/bin/etcd]
///     pidFile: m1.pid
///     logFile: m1.log
/// - name: m2
///   environment: m2.env
///   start: [sv, start, etcd-m2]       # or by any two commands
///   stop: [sv, stop, etcd-m2]
///   names: [etcd-2.example.com]       # more names for its certificate
/// ```
///
/// Paths are relative to the file. Settings have to be in the environment file: flags on a member's command line, and a
/// `--config-file`, are stronger than it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Description {
    /// All members of the cluster, which are all on this machine.
    pub members: Vec<MemberDescription>,
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MemberDescription {
    /// Its name, as `ETCD_NAME` says it.
    pub name: String,
    /// The file with its settings.
    pub environment: PathBuf,
    /// The systemd unit that runs it.
    pub unit: Option<String>,
    /// How the tool runs it by itself.
    pub process: Option<ProcessDescription>,
    /// A command that starts it.
    pub start: Option<Vec<String>>,
    /// A command that stops it, and is done when it has stopped.
    pub stop: Option<Vec<String>>,
    /// More names, or addresses, for the certificate that is made for it.
    pub names: Vec<String>,
}

/// A member that the tool starts as a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessDescription {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where its process id is written; who started it before has to have written it too.
    pub pid_file: PathBuf,
    /// What it prints is added here.
    pub log_file: PathBuf,
}

/// How a member is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Running {
    Process(ProcessDescription),
    Commands { start: Vec<String>, stop: Vec<String> },
}

impl Description {
    /// Reads a description file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or does not say of each member what is needed.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
        let described: Self =
            serde_saphyr::from_str(&text).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))?;
        described.completed(path.parent().unwrap_or(Path::new("")))
    }

    /// Reads members from flags: `name=m0,environment=FILE,unit=UNIT` or `name=…,environment=…,command=ETCD,pid-file=FILE,
    /// log-file=FILE`.
    ///
    /// # Errors
    ///
    /// When something is not known, or missing.
    pub fn of_flags(flags: &[String]) -> Result<Self> {
        let members = flags
            .iter()
            .map(|flag| member_of_flag(flag))
            .collect::<Result<_>>()?;
        Self { members }.completed(Path::new(""))
    }

    /// With paths that are relative to `base`, and checked.
    fn completed(mut self, base: &Path) -> Result<Self> {
        if self.members.is_empty() {
            return Err(Error::Usage(
                "no members are described: name a file with --cluster, or each with --member".to_owned(),
            ));
        }
        for n in 0..self.members.len() {
            let (before, rest) = self.members.split_at_mut(n);
            let member = &mut rest[0];
            if member.name.is_empty() {
                return Err(Error::Usage(format!("member {n} has no name")));
            }
            if before.iter().any(|other| other.name == member.name) {
                return Err(Error::Usage(format!("two members are called {}", member.name)));
            }
            if member.environment.as_os_str().is_empty() {
                return Err(Error::Usage(format!("{}: environment is missing", member.name)));
            }
            member.environment = base.join(&member.environment);
            if let Some(process) = &mut member.process {
                process.pid_file = base.join(&process.pid_file);
                process.log_file = base.join(&process.log_file);
            }
            member.running()?;
        }
        Ok(self)
    }
}

impl MemberDescription {
    pub(crate) fn running(&self) -> Result<Running> {
        let refused = |why: &str| Error::Usage(format!("{}: {why}", self.name));
        match (&self.unit, &self.process, &self.start, &self.stop) {
            (Some(unit), None, None, None) => {
                let command = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
                Ok(Running::Commands {
                    // A member that waits for its cluster is not up for systemd, so it is not waited for.
                    start: command(&["systemctl", "start", "--no-block", unit]),
                    stop: command(&["systemctl", "stop", unit]),
                })
            }
            (None, Some(process), None, None) if !process.command.is_empty() => {
                Ok(Running::Process(process.clone()))
            }
            (None, None, Some(start), Some(stop)) if !start.is_empty() && !stop.is_empty() => {
                Ok(Running::Commands {
                    start: start.clone(),
                    stop: stop.clone(),
                })
            }
            _ => Err(refused(
                "say how it is run by one of: unit; process with a command; start and stop",
            )),
        }
    }
}

fn member_of_flag(flag: &str) -> Result<MemberDescription> {
    let mut member = MemberDescription::default();
    let mut process = ProcessDescription {
        command: Vec::new(),
        pid_file: PathBuf::new(),
        log_file: PathBuf::new(),
    };
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for part in flag.split(',') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name {
            "name" => value.clone_into(&mut member.name),
            "environment" => member.environment = value.into(),
            "unit" => member.unit = Some(value.to_owned()),
            "command" => process.command = words(value),
            "pid-file" => process.pid_file = value.into(),
            "log-file" => process.log_file = value.into(),
            "start" => member.start = Some(words(value)),
            "stop" => member.stop = Some(words(value)),
            "names" => member.names = value.split('+').map(str::to_owned).collect(),
            _ => {
                return Err(Error::Usage(format!(
                    "--member {flag}: {name} is not known; it takes name, environment and one of unit; command, pid-file and \
                     log-file; start and stop; and names, with + between them"
                )));
            }
        }
    }
    let parts = [&process.pid_file, &process.log_file];
    if !process.command.is_empty() {
        if parts.iter().any(|path| path.as_os_str().is_empty()) {
            return Err(Error::Usage(format!(
                "--member {flag}: a command needs pid-file and log-file"
            )));
        }
        member.process = Some(process);
    }
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_run_in_one_way() {
        for (flag, wanted) in [
            ("name=a,environment=e,unit=u", ""),
            ("name=a,environment=e,command=etcd --x,pid-file=p,log-file=l", ""),
            ("name=a,environment=e,start=x y,stop=z", ""),
            ("name=a,environment=e", "say how it is run"),
            ("name=a,environment=e,unit=u,start=x,stop=y", "say how it is run"),
            ("name=a,environment=e,command=etcd", "a command needs pid-file"),
            ("name=a,unit=u", "environment is missing"),
            ("environment=e,unit=u", "has no name"),
            ("name=a,environment=e,units=u", "units is not known"),
        ] {
            let found = Description::of_flags(&[flag.to_owned()])
                .err()
                .map(|e| e.to_string());
            let found = found.unwrap_or_default();
            assert!(
                found.contains(wanted) && found.is_empty() == wanted.is_empty(),
                "{flag}: {found}"
            );
        }
        let twice = [
            "name=a,environment=e,unit=u".to_owned(),
            "name=a,environment=f,unit=v".to_owned(),
        ];
        assert!(Description::of_flags(&twice).is_err());
    }

    #[test]
    fn the_file_says_what_flags_say_relative_to_where_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("cluster.yaml");
        let text = "members:\n- name: m1\n  environment: m1.env\n  process:\n    command: [etcd]\n    pidFile: m1.pid\n    \
                    logFile: /m1.log\n";
        std::fs::write(&file, text).expect("writes");
        let described = Description::read(&file).expect("reads");
        let member = &described.members[0];
        assert_eq!(member.environment, dir.path().join("m1.env"));
        let process = member.process.as_ref().expect("a process");
        assert_eq!(
            (&process.pid_file, &process.log_file),
            (&dir.path().join("m1.pid"), &PathBuf::from("/m1.log"))
        );
        std::fs::write(&file, text.replace("pidFile", "pidfile")).expect("writes");
        assert!(Description::read(&file).is_err(), "what is not known is refused");
    }
}
