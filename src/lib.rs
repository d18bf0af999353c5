#![forbid(unsafe_code)]
//! Twograin.

pub mod domain;
