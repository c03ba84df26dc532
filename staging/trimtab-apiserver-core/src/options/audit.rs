//! The flags of the audit log, named as kube-apiserver's.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::OptionsError;
use crate::audit::{Audit, LogConfig, Mode, Policy, Rotation};

/// When audit events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuditMode {
    /// Soon, by a thread of its own; lost when that cannot keep up.
    Batch,
    /// Before the request goes on.
    Blocking,
    /// The same, and a request whose beginning cannot be written is refused.
    BlockingStrict,
}

/// The flags of the audit log.
#[derive(Clone, Debug, Args)]
pub struct AuditOptions {
    /// What is written to the audit log: a file with a Policy of audit.k8s.io/v1. Without it nothing is
    #[arg(long, requires = "audit_log_path")]
    pub audit_policy_file: Option<PathBuf>,

    /// The audit log's file; - is standard output. Without it nothing is written
    #[arg(long, requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,

    /// When events are written
    #[arg(long, value_enum, default_value = "blocking")]
    pub audit_log_mode: AuditMode,

    /// How events are written: json, one a line
    #[arg(long, value_parser = ["json"], default_value = "json")]
    pub audit_log_format: String,

    /// How many days old files are kept; 0 for ever
    #[arg(long, default_value_t = 366)]
    pub audit_log_maxage: u32,

    /// How many old files are kept; 0 for all
    #[arg(long, default_value_t = 100)]
    pub audit_log_maxbackup: u32,

    /// How long the file gets before it is begun anew, in MiB; 0 for as long as it gets
    #[arg(long, default_value_t = 100)]
    pub audit_log_maxsize: u32,
}

impl AuditOptions {
    /// The audit log that they describe, if they describe one.
    pub(super) fn open(&self) -> Result<Option<Audit>, OptionsError> {
        let (Some(policy), Some(path)) = (&self.audit_policy_file, &self.audit_log_path) else {
            return Ok(None);
        };
        let policy = Policy::from_file(policy)?;
        let log = LogConfig {
            path: path.clone(),
            rotation: Rotation {
                max_size: u64::from(self.audit_log_maxsize) << 20,
                max_age: Duration::from_secs(u64::from(self.audit_log_maxage) * 24 * 3600),
                max_backups: self.audit_log_maxbackup as usize,
            },
            mode: match self.audit_log_mode {
                AuditMode::Batch => Mode::Batch,
                AuditMode::Blocking => Mode::Blocking,
                AuditMode::BlockingStrict => Mode::BlockingStrict,
            },
        };
        let shown = path.display().to_string();
        let audit = Audit::new(policy, &log).map_err(|source| OptionsError::File {
            flag: "--audit-log-path",
            path: shown,
            source,
        })?;
        Ok(Some(audit))
    }
}
