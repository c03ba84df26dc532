//! Tests of certificates: what is to be done when, what is made, who writes it, and how it is made known.

mod injection;
mod material;
mod rotation;
mod secret;
mod years;
