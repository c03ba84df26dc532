//! Conversion of custom resources between versions, through one version that all others can be converted to.

mod convert;
mod keep;
mod review;
mod survive;

#[cfg(test)]
mod tests;

pub use convert::{Conversion, ConversionError, Spoke};
pub use keep::{keep_in_annotation, restore_from_annotation};
pub use survive::{Lost, hub_round_trip, spoke_round_trip};

pub(crate) use convert::Converts;
pub(crate) use review::review;
