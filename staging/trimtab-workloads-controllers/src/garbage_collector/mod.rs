//! The garbage collector: what lost all of its owners is deleted.

#![cfg_attr(not(test), allow(dead_code))]
mod decide;
mod graph;

#[cfg(test)]
mod tests;
