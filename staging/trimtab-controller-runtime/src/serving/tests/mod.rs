//! Tests of serving: routes, health and access without connections; TLS and life of connections over pipes; the listener
//! over sockets.

mod access;
mod certificates;
mod connections;
mod health;
mod kit;
mod listener;
mod router;
