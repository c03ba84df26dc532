//! `trimtab testenv -- COMMAND`: a command with a control plane of its own, for tests in any language.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use trimtab_testing::TestEnv;

use crate::up::Outcome;

#[derive(Args, Debug)]
pub(crate) struct TestEnvOptions {
    /// Apply these manifests first, in this order; custom resources are served before the command starts
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    manifests: Vec<PathBuf>,
    /// Make the command this user, who may do what this cluster role allows in all namespaces (as `view`), instead of the
    /// administrator
    #[arg(long = "as", value_name = "USER=ROLE", value_parser = user_and_role)]
    user: Option<(String, String)>,
    /// Run the controllers of workloads too, from Deployments and Jobs to endpoints, volumes, budgets and quotas
    #[arg(long)]
    workload_controllers: bool,
    /// Simulate so many nodes, with a scheduler: pods are given to them and run there, as their annotations say
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    nodes: usize,
    /// Have pods and nodes go through the stages of this file instead of what they do by themselves; as KWOK has them (kind: Stage)
    #[arg(long, value_name = "FILE", requires = "nodes")]
    node_stages: Option<PathBuf>,
    /// The command, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn user_and_role(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((user, role)) if !user.is_empty() && !role.is_empty() => Ok((user.to_owned(), role.to_owned())),
        _ => Err("want USER=ROLE, as alice=view".to_owned()),
    }
}

/// Starts an API server in memory, on a free port, with the controllers of every cluster, and what the options say; runs the command with `KUBECONFIG`
/// set; passes signals on to it; stops everything. Answers the command's status.
///
/// # Errors
///
/// When the environment cannot be started or filled, or the command cannot be run; one line.
pub(crate) async fn run(options: &TestEnvOptions) -> Outcome<u8> {
    let mut builder = TestEnv::builder().socket().nodes(options.nodes);
    if options.workload_controllers {
        builder = builder.workload_controllers();
    }
    if let Some(file) = &options.node_stages {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|why| format!("--node-stages {}: {why}", file.display()))?;
        builder = builder.node_stages(&text);
    }
    if let Some((user, _)) = &options.user {
        builder = builder.user(user, &[]);
    }
    let env = builder.start().await?;
    let ended = run_in(&env, options).await;
    // In order also when something has gone wrong, or what still runs would complain of the end.
    let stopped = env.shutdown().await;
    let status = ended?;
    stopped?;
    // As shells say it.
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

async fn run_in(env: &TestEnv, options: &TestEnvOptions) -> Outcome<ExitStatus> {
    for file in &options.manifests {
        env.apply_file(file).await?;
    }
    let mut kubeconfig = env.kubeconfig();
    if let Some((user, role)) = &options.user {
        env.grant_all(user, role).await?;
        kubeconfig = env.kubeconfig_as(user).ok_or("the user is not known")?;
    }
    let path = env.kubeconfig_file(&kubeconfig)?;
    command(&options.command, path).await
}

async fn command(command: &[OsString], kubeconfig: PathBuf) -> Outcome<ExitStatus> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let mut signals = [
        (signal(SignalKind::interrupt())?, Signal::INT),
        (signal(SignalKind::terminate())?, Signal::TERM),
        (signal(SignalKind::hangup())?, Signal::HUP),
    ];
    let mut child = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let [interrupt, terminate, hangup] = &mut signals;
    loop {
        tokio::select! {
            biased;
            status = child.wait() => return Ok(status?),
            signal = next(interrupt) => pass_on(&child, signal),
            signal = next(terminate) => pass_on(&child, signal),
            signal = next(hangup) => pass_on(&child, signal),
        }
    }
}

async fn next((listener, signal): &mut (Listener, Signal)) -> Signal {
    match listener.recv().await {
        Some(()) => *signal,
        None => std::future::pending().await,
    }
}

fn pass_on(child: &Child, signal: Signal) {
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ended = kill_process(pid, signal); // it fails when the command is about to be waited for
    }
}
