//! trimtab-client-coordination.
