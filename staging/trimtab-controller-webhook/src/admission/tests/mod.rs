//! Tests of admission: what of an object is changed, and how reviews are answered.

mod difference;
mod reviews;
