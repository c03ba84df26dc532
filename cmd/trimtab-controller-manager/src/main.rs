//! The `trimtab-controller-manager` binary.

fn main() {}
