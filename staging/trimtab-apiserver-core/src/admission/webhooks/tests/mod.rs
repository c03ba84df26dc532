//! Webhooks: rules and reviews as tables, and requests to a registry whose webhooks are servers on loopback.

mod answers;
mod calls;
mod matching;
mod reviews;
mod rounds;
