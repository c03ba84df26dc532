//! trimtab-controller.
