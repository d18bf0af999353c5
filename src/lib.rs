#![forbid(unsafe_code)]
//! Twograin.

pub mod domain;
pub mod error;
pub mod exchange;
pub mod report;
