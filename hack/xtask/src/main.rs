//! The house's own checks and chores.

fn main() {}
