//! The flags of the audit log, named as kube-apiserver's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::{OptionsError, Window, window};
use crate::audit::{Audit, Batching, LogConfig, Mode, Policy, Rotation, Throttle, Truncation, WebhookConfig};

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
    /// What is written to the audit log or sent to its webhook: a file with a Policy of audit.k8s.io/v1. Without it nothing
    /// is
    #[arg(long)]
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

    /// Whether what is too long is left out of events, and batches are split that are too long
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub audit_log_truncate_enabled: bool,

    /// How long an event may be, in bytes: what was sent and answered is left out of longer ones, and what is longer even
    /// so is lost
    #[arg(long, default_value_t = 100 << 10, value_name = "BYTES")]
    pub audit_log_truncate_max_event_size: usize,

    /// How long a batch may be, in bytes
    #[arg(long, default_value_t = 10 << 20, value_name = "BYTES")]
    pub audit_log_truncate_max_batch_size: usize,

    /// The server that audit events are sent to: a kubeconfig
    #[arg(long, requires = "audit_policy_file", value_name = "FILE")]
    pub audit_webhook_config_file: Option<PathBuf>,

    /// When events are sent
    #[arg(long, value_enum, default_value = "batch")]
    pub audit_webhook_mode: AuditMode,

    /// How long to wait before events are sent again after the first failure
    #[arg(long, default_value = "10s", value_parser = window, value_name = "DURATION")]
    pub audit_webhook_initial_backoff: Window,

    /// How many events may wait to be sent; more are lost. In batch mode only, as all of these
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub audit_webhook_batch_buffer_size: u32,

    /// How many events are sent at once, at most
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
    pub audit_webhook_batch_max_size: u32,

    /// How long an event waits for others
    #[arg(long, default_value = "30s", value_parser = window, value_name = "DURATION")]
    pub audit_webhook_batch_max_wait: Window,

    /// Whether there is a limit to how many batches are sent
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub audit_webhook_batch_throttle_enable: bool,

    /// How many batches are sent in a second, on average
    #[arg(long, default_value_t = 10.0, value_parser = positive_number)]
    pub audit_webhook_batch_throttle_qps: f32,

    /// How many batches are sent at once, after a time without
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    pub audit_webhook_batch_throttle_burst: u32,

    /// Whether what is too long is left out of events, and batches are split that are too long
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = ArgAction::Set)]
    pub audit_webhook_truncate_enabled: bool,

    /// How long an event may be, in bytes: what was sent and answered is left out of longer ones, and what is longer even
    /// so is lost
    #[arg(long, default_value_t = 100 << 10, value_name = "BYTES")]
    pub audit_webhook_truncate_max_event_size: usize,

    /// How long a batch may be, in bytes
    #[arg(long, default_value_t = 10 << 20, value_name = "BYTES")]
    pub audit_webhook_truncate_max_batch_size: usize,
}

fn positive_number(text: &str) -> Result<f32, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &f32| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "a positive number is wanted".to_owned())
}

/// How long events may be, if there is a limit.
fn truncation(
    plugin: &'static str,
    enabled: bool,
    max_event: usize,
    max_batch: usize,
) -> Result<Option<Truncation>, OptionsError> {
    if max_event == 0 || max_batch < max_event {
        return Err(OptionsError::AuditTruncation { plugin });
    }
    Ok(enabled.then_some(Truncation { max_event, max_batch }))
}

impl AuditOptions {
    /// The audit log that they describe, if they describe one.
    pub(super) fn open(&self) -> Result<Option<Audit>, OptionsError> {
        let Some(policy) = &self.audit_policy_file else {
            return Ok(None);
        };
        if self.audit_log_path.is_none() && self.audit_webhook_config_file.is_none() {
            return Err(OptionsError::UnusedAuditPolicy);
        }
        let log = truncation(
            "log",
            self.audit_log_truncate_enabled,
            self.audit_log_truncate_max_event_size,
            self.audit_log_truncate_max_batch_size,
        )?;
        let webhook = truncation(
            "webhook",
            self.audit_webhook_truncate_enabled,
            self.audit_webhook_truncate_max_event_size,
            self.audit_webhook_truncate_max_batch_size,
        )?;
        let mut audit = Audit::new(Policy::from_file(policy)?);
        if let Some(path) = &self.audit_log_path {
            audit = audit
                .with_log(&self.log(path, log))
                .map_err(|source| OptionsError::File {
                    flag: "--audit-log-path",
                    path: path.display().to_string(),
                    source,
                })?;
        }
        if let Some(file) = &self.audit_webhook_config_file {
            let webhook = self.webhook(file, webhook);
            audit = audit
                .with_webhook(&webhook)
                .map_err(|why| OptionsError::AuditWebhook {
                    path: file.display().to_string(),
                    why,
                })?;
        }
        Ok(Some(audit))
    }

    fn webhook(&self, file: &Path, truncation: Option<Truncation>) -> WebhookConfig {
        let throttle = Throttle {
            per_second: self.audit_webhook_batch_throttle_qps,
            burst: self.audit_webhook_batch_throttle_burst,
        };
        WebhookConfig {
            config_file: file.to_owned(),
            mode: self.audit_webhook_mode.into(),
            batch: Batching {
                buffer: self.audit_webhook_batch_buffer_size as usize,
                most: self.audit_webhook_batch_max_size as usize,
                wait: self.audit_webhook_batch_max_wait.0.unwrap_or_default(),
                throttle: self.audit_webhook_batch_throttle_enable.then_some(throttle),
            },
            truncation,
            initial_backoff: self.audit_webhook_initial_backoff.0.unwrap_or_default(),
        }
    }

    fn log(&self, path: &Path, truncation: Option<Truncation>) -> LogConfig {
        LogConfig {
            path: path.to_owned(),
            rotation: Rotation {
                max_size: u64::from(self.audit_log_maxsize) << 20,
                max_age: Duration::from_secs(u64::from(self.audit_log_maxage) * 24 * 3600),
                max_backups: self.audit_log_maxbackup as usize,
            },
            mode: self.audit_log_mode.into(),
            truncation,
        }
    }
}

impl From<AuditMode> for Mode {
    fn from(mode: AuditMode) -> Self {
        match mode {
            AuditMode::Batch => Self::Batch,
            AuditMode::Blocking => Self::Blocking,
            AuditMode::BlockingStrict => Self::BlockingStrict,
        }
    }
}
