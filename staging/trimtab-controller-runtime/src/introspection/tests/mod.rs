//! What is kept of turns, what is shown of controllers, and what answers with what.

mod clauses;
mod histories;
mod pages;
mod recording;
mod showing;
