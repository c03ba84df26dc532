//! trimtab-apimachinery.
