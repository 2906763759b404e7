//! Longer texts: what the bus promises, how it is built, what its words mean, and how to come to it.

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}

#[doc = include_str!("migration.md")]
pub mod migration {}
