//! Longer texts: what the bus promises, how it is built, and what its words mean.

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}
