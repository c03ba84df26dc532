//! trimtab-testing.
