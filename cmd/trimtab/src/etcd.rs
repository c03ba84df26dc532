//! `trimtab etcd`.

use clap::Subcommand;
use trimtab_apiserver::cli::Progress;
use trimtab_apiserver::etcd::Ended;
use trimtab_apiserver::etcd::options::{MakeOptions, SaveOptions, StatusOptions};
use trimtab_apiserver::etcd::switch::{SwitchOptions, Switched};

use crate::up::Outcome;

/// What is done to etcd.
#[derive(Debug, Subcommand)]
pub(crate) enum EtcdCommand {
    /// Show members, leader, revisions, sizes, alarms, URLs and until when certificates are good
    Status(StatusOptions),
    /// Save a snapshot in a file, and check it
    Backup(SaveOptions),
    /// Make members of a snapshot, in new directories, or check one
    Restore(MakeOptions),
    /// Change how clients and members reach etcd, from http to https or back
    SwitchTransport(Box<SwitchOptions>),
}

pub(crate) async fn run(command: EtcdCommand) -> Outcome {
    let mut progress = Progress::new();
    let mut told = |line: String| progress.show(|| line);
    match command {
        EtcdCommand::Status(options) => {
            let status = options.run().await?;
            println!("{status}");
            if !status.is_well() {
                return Err("the cluster is not well".into());
            }
        }
        EtcdCommand::Backup(options) => {
            let held = options.run(&mut told).await?;
            drop(progress);
            println!("saved    {}", options.file.display());
            println!("         {held}");
        }
        EtcdCommand::Restore(options) => {
            let (held, made) = options.run(&mut told).await?;
            drop(progress);
            println!("checked  {}", options.file.display());
            println!("         {held}");
            for (member, holds) in made {
                println!(
                    "restored {} into {}: {holds}",
                    member.name,
                    member.data_dir.display()
                );
            }
        }
        EtcdCommand::SwitchTransport(options) => {
            let mut say = |line: String| println!("{line}");
            let switched = options.run(&mut say, &mut told).await?;
            drop(progress);
            match switched {
                Switched::Already => println!("all members are by {} already", options.to),
                Switched::Ended(Ended::Changed) => {
                    println!("done: clients and members reach etcd by {}", options.to)
                }
                Switched::Ended(Ended::Held) => println!(
                    "waiting: move clients to {}, and then run this again without --hold",
                    options.to
                ),
                Switched::Ended(Ended::Returned(why)) => {
                    return Err(format!("everything is as before, because {why}").into());
                }
                // What was asked for has been said.
                _ => {}
            }
        }
    }
    Ok(())
}
