//! The `sample-controller` binary.

fn main() {}
