//! trimtab-workloads.
