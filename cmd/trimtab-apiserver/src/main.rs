//! The `trimtab-apiserver` binary.

fn main() {}
