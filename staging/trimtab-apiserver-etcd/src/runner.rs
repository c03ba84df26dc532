//! Starts and stops members: as processes of their own, which outlive the tool, or by commands such as systemctl.

use std::fs::File;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::description::{ProcessDescription, Running};
use crate::environment::Environment;
use crate::error::{Error, Result};

/// How long a member may take to stop by itself before it is killed: longer than etcd needs to hand over and to sync.
const GRACE: Duration = Duration::from_secs(20);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

/// Starts a member that is stopped.
pub(crate) async fn start(running: &Running, environment: &Environment) -> Result<()> {
    match running {
        Running::Commands { start, .. } => command(start).await,
        Running::Process(process) => spawn(process, environment),
    }
}

/// Stops a member, and returns once it has stopped. One that is not running is no error.
pub(crate) async fn stop(running: &Running) -> Result<()> {
    match running {
        Running::Commands { stop, .. } => command(stop).await,
        Running::Process(process) => end(process).await,
    }
}

/// Runs a command, and answers what it printed.
pub(crate) async fn run(words: &[String]) -> Result<Output> {
    let program = words.join(" ");
    let failed = |why: String| Error::Program {
        program: program.clone(),
        why,
    };
    let (name, args) = words
        .split_first()
        .ok_or_else(|| failed("no command".to_owned()))?;
    let output = Command::new(name)
        .args(args)
        .env("ETCDCTL_API", "3") // the etcdctl of 3.3 and before speaks version 2 by itself
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(COMMAND, output)
        .await
        .map_err(|_| failed(format!("it takes longer than {} s", COMMAND.as_secs())))?
        .map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = if text.trim().is_empty() {
        String::from_utf8_lossy(&output.stdout)
    } else {
        text
    };
    let last = text.trim().lines().last().unwrap_or_default();
    Err(failed(format!("{}: {last}", output.status)))
}

async fn command(words: &[String]) -> Result<()> {
    run(words).await.map(drop)
}

fn spawn(process: &ProcessDescription, environment: &Environment) -> Result<()> {
    let log = File::options().create(true).append(true).open(&process.log_file);
    let log = log.map_err(Error::file(&process.log_file))?;
    let also = log.try_clone().map_err(Error::file(&process.log_file))?;
    // The shell writes its own id before it becomes etcd, so that whoever comes after a crash of ours finds it.
    let mut command = std::process::Command::new("/bin/sh");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
        .arg(&process.pid_file)
        .args(&process.command)
        .envs(environment.variables().filter(|(_, value)| !value.is_empty()))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(also);
    let spawned = command.spawn().map_err(|e| Error::Program {
        program: process.command.join(" "),
        why: e.to_string(),
    })?;
    // It is not waited for: it outlives us, and `end` looks at the process itself.
    drop(spawned);
    Ok(())
}

async fn end(process: &ProcessDescription) -> Result<()> {
    let Some(pid) = pid(&process.pid_file)? else {
        return Ok(());
    };
    if !is_ours(pid, &process.command) {
        return Ok(());
    }
    let told = |signal| {
        Pid::from_raw(pid)
            .map_or(Ok(()), |pid| kill_process(pid, signal))
            .map_err(|e| Error::Program {
                program: process.command.join(" "),
                why: format!("process {pid} cannot be stopped: {e}"),
            })
    };
    let since = Instant::now();
    let mut signal = Signal::TERM;
    // It may end between a look and a signal.
    let _ = told(signal);
    while is_ours(pid, &process.command) {
        if since.elapsed() > GRACE && signal == Signal::TERM {
            signal = Signal::KILL;
            told(signal)?;
        }
        if since.elapsed() > GRACE * 2 {
            return Err(Error::Late(format!(
                "process {pid} ({}) does not end, though it was killed",
                process.command.join(" ")
            )));
        }
        sleep(POLL).await;
    }
    Ok(())
}

fn pid(path: &Path) -> Result<Option<i32>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path)(error)),
    }
}

/// Whether the process runs, and runs the program of the member, or the shell before it: ids are used again.
fn is_ours(pid: i32, command: &[String]) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.trim_start().chars().next());
    if matches!(state, None | Some(None | Some('Z' | 'X'))) {
        return false;
    }
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|b| *b == 0).map(String::from_utf8_lossy);
    let wanted = Path::new(&command[0]).file_name();
    let mut words = words.filter(|word| Path::new(&**word).file_name() == wanted);
    words.next().is_some()
}
