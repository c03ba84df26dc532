//! trimtab-apiserver.
