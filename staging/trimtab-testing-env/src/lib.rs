//! trimtab-testing-env.
