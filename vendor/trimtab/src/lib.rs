//! trimtab.
