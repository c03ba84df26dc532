//! What happened in a run, in order: what the controller saw and did, what went wrong, what its users did.

use std::fmt;
use std::time::Duration;

use crate::plan::Fault;
use crate::point::Point;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Duration,
    /// The number of the process that it happened to; 0: none.
    pub(crate) process: u32,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The process asked; the code that it was answered with, once it was.
    Asked {
        point: Point,
        code: Option<u16>,
        aside: bool,
    },
    /// A watch told the process.
    Saw(Point),
    /// A watch withheld it.
    Unseen(Point),
    /// Something went wrong.
    Fault(Fault),
    /// The process started, died, ended.
    Life(String),
    /// A user did something, or waited for something.
    Step(String),
}

impl Entry {
    /// The point of a run that it is, if it counts as one.
    pub(crate) fn point(&self) -> Option<&Point> {
        match &self.what {
            What::Asked {
                point, aside: false, ..
            }
            | What::Saw(point) => Some(point),
            _ => None,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} s  ", self.at.as_secs_f64())?;
        let process = self.process;
        match &self.what {
            What::Asked {
                point,
                code: Some(code),
                ..
            } => write!(f, "process {process} asked  {point} -> {code}"),
            What::Asked {
                point, code: None, ..
            } => write!(f, "process {process} asked  {point} -> no answer"),
            What::Saw(point) => write!(f, "process {process} saw    {point}"),
            What::Unseen(point) => write!(
                f,
                "process {process} is not told of {point} and what follows for a while"
            ),
            What::Fault(fault) => write!(f, "process {process} FAULT  {fault}"),
            What::Life(what) => write!(f, "process {process} {what}"),
            What::Step(what) => write!(f, "users: {what}"),
        }
    }
}
