//! The command line that programs with a manager share.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use kube::Client;
use trimtab_client_coordination::leader::{ElectionConfig, Timing};

use super::{ConnectError, connect};
use crate::manager::{Endpoints, Manager};
use crate::serving::{CertificateError, Certificates};

/// The flags of a program with a manager, to be flattened into its own. Names are those that Kubernetes' own programs use,
/// where there are any.
///
/// ```no_run
/// use clap::Parser;
/// use trimtab_controller_runtime::process::{self, Options};
///
/// #[derive(Parser)]
/// struct Cli {
///     #[command(flatten)]
///     process: Options,
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::process::ExitCode {
/// process::main(async {
///     let cli = Cli::parse();
///     let manager = cli.process.manager("website-controller").await?;
///     // manager.controller(…).start()?;
///     cli.process.run(&manager).await
/// })
/// .await
/// # }
/// ```
#[derive(Args, Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The kubeconfig of the cluster; without it, the service account of the pod that this runs in
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Print the Role that the program needs, as YAML, instead of running
    #[arg(long)]
    pub print_role: bool,

    /// Watch this namespace only
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Answer /healthz, /livez, /readyz, /metrics and /debug/controllers here, as 127.0.0.1:8080 or :8080
    #[arg(long, value_name = "ADDRESS")]
    pub bind_address: Option<String>,

    /// Speak TLS there, with the certificate in this PEM file; it is read again when it changes
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_private_key_file",
        requires = "bind_address"
    )]
    pub tls_cert_file: Option<PathBuf>,

    /// The private key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,

    /// Let only those ask for metrics and controllers there whom the cluster allows it
    #[arg(long, requires = "bind_address")]
    pub authorize_requests: bool,

    /// Work only while no other replica does
    #[arg(long)]
    pub leader_elect: bool,

    /// The namespace of the Lease by which replicas agree; without it, the pod's own
    #[arg(long, value_name = "NAME", requires = "leader_elect")]
    pub leader_elect_resource_namespace: Option<String>,

    /// Seconds for which a leader that is not heard from is waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 15, requires = "leader_elect")]
    pub leader_elect_lease_duration: u64,

    /// Seconds after which a leader that cannot renew its Lease stops to work
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "leader_elect")]
    pub leader_elect_renew_deadline: u64,

    /// Seconds between two tries to get or renew the Lease
    #[arg(long, value_name = "SECONDS", default_value_t = 2, requires = "leader_elect")]
    pub leader_elect_retry_period: u64,

    /// How much to log, from 0 to 5; RUST_LOG overrides it
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 1)]
    pub verbosity: u8,
}

/// A manager that cannot be made of the command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The cluster cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Options {
    /// A client of the cluster. No request is made.
    ///
    /// # Errors
    /// [`OptionsError::Connect`].
    pub async fn client(&self) -> Result<Client, OptionsError> {
        Ok(connect(self.kubeconfig.as_deref()).await?)
    }

    /// A manager of this name, which is that of its Lease too, as the flags say. Its client is that of [`Options::client`].
    ///
    /// # Errors
    /// [`OptionsError`].
    pub async fn manager(&self, name: &str) -> Result<Manager, OptionsError> {
        let mut manager = Manager::new(self.client().await?).name(name);
        if let Some(namespace) = &self.namespace {
            manager = manager.namespace(namespace);
        }
        if self.leader_elect {
            let mut election = ElectionConfig::new(name);
            election
                .namespace
                .clone_from(&self.leader_elect_resource_namespace);
            election.timing = Timing {
                lease_duration: Duration::from_secs(self.leader_elect_lease_duration),
                renew_deadline: Duration::from_secs(self.leader_elect_renew_deadline),
                retry_period: Duration::from_secs(self.leader_elect_retry_period),
            };
            manager = manager.elected(election);
        }
        let Some(address) = &self.bind_address else {
            return Ok(manager);
        };
        let mut endpoints = Endpoints::at(address);
        if let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) {
            endpoints = endpoints.tls(Certificates::from_files(certificate, key).await?);
        }
        if self.authorize_requests {
            endpoints = endpoints.authorized();
        }
        Ok(manager.endpoints(endpoints))
    }
}

/// What the program itself may fail with.
type Outcome = Result<(), Box<dyn StdError + Send + Sync>>;

impl Options {
    /// Begins to log, and runs the manager until Ctrl-C or a request to terminate; or prints its Role, if that is what the flags
    /// say: a ClusterRole, or what one namespace takes.
    ///
    /// # Errors
    /// As of [`Manager::run`], and where signals cannot be listened for.
    pub async fn run(&self, manager: &Manager) -> Outcome {
        if !self.print_role {
            super::log_to_stderr(self.verbosity);
            return Ok(manager.run(super::stop_on_signals()?).await?);
        }
        let (rules, name) = (manager.rules(), manager.field_manager());
        let manifests = match &self.namespace {
            None => vec![serde_json::to_value(rules.cluster_role(name))?],
            Some(namespace) => {
                let (role, cluster_role) = rules.role(name, namespace);
                let cluster_role = cluster_role.map(serde_json::to_value).transpose()?;
                std::iter::once(serde_json::to_value(role)?)
                    .chain(cluster_role)
                    .collect()
            }
        };
        for manifest in manifests {
            let text = serde_saphyr::to_string(&manifest)?;
            #[allow(clippy::print_stdout)] // a command line's output is its purpose
            {
                println!("---\n{}", text.trim_end());
            }
        }
        Ok(())
    }
}

/// Runs a program: what fails is said in one line on standard error, with the program's name, and makes the exit code 1.
pub async fn main(program: impl Future<Output = Result<(), Box<dyn StdError + Send + Sync>>>) -> ExitCode {
    let Err(error) = program.await else {
        return ExitCode::SUCCESS;
    };
    let name = std::env::args().next().unwrap_or_default();
    let name = std::path::Path::new(&name).file_stem().unwrap_or_default();
    #[allow(clippy::print_stderr)] // a command line's output is its purpose
    {
        eprintln!("{}: {}", name.display(), super::one_line(&error));
    }
    ExitCode::FAILURE
}
