//! What controllers do and have done, for people: timelines of keys, snapshots of queues and informers, and a page that
//! shows them live.
//!
//! A controller records its turns in a [`Timeline`], and is shown by an [`Introspection`] with its queue; a [`Page`] answers
//! requests with what there is to be seen at that moment. Nothing here listens, waits or has a task.
//!
//! ```
//! # use jiff::Timestamp;
//! # use trimtab_controller_runtime::introspection::*;
//! let timeline = Timeline::new();
//! let shown = Introspection::new("website-controller");
//! shown.controller(Observed::new("website", timeline.clone()).kind("Website").workers(2));
//!
//! // The controller, around each turn:
//! let occasion = Occasion::new(Timestamp::now()).because("Website default/hello updated");
//! let mut record = timeline.begin("default/hello", occasion);
//! record.wrote(Write::new(Verb::Apply, "Deployment", "default/hello").version("1042"));
//! record.status(StatusWrite::Written);
//! record.reconciled();
//! record.end(Outcome::Success);
//!
//! // The listener:
//! let page = Page::new(shown);
//! let path = "/debug/controllers/api/controllers/website/timeline";
//! let answer = page.respond(&http::Method::GET, path, Some("key=default%2Fhello"), Timestamp::now());
//! assert_eq!(answer.status(), 200);
//! ```
//!
//! # What it costs
//!
//! To record a turn with one reason and two writes takes about a microsecond in all, also in a timeline that is full, and
//! nine small allocations; it is kept in about 600 bytes. A timeline that is as full as the default [`Bounds`] let it be of
//! such turns takes 20 MB. `cargo bench -p trimtab-controller-runtime` measures it.
//!
//! To look costs as much as is shown, at most once a second for each open page: tens of microseconds with the timeline's lock
//! held, and a copy of a queue's keys unless these are more than 20,000.

mod informers;
mod live;
mod observed;
mod page;
mod record;
mod snapshot;
mod state;
mod timeline;
mod wire;

pub use informers::{HandlerSnapshot, InformerSnapshot, Relists};
pub use live::{Fact, FactGroup, Introspection, Level, Overview};
pub use observed::{ControllerSnapshot, ControllerState, ControllerSummary, Depth, KeyView, Observed};
pub use page::{Page, Response};
pub use record::{Occasion, Outcome, StatusWrite, Verb, Write, WriteResult};
pub use snapshot::{Counters, KeyStatus, KeyTimeline, LastTurn, Listed, Place, TurnSnapshot, WriteSnapshot};
pub use timeline::{Bounds, Timeline, TurnRecord};

#[cfg(test)]
mod tests;
