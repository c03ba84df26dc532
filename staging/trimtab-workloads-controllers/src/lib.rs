//! trimtab-workloads-controllers.
