//! trimtab-controller-runtime.
