//! trimtab-client.
