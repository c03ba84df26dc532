//! trimtab-client-cache.
