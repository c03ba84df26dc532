//! trimtab-client-workqueue.
