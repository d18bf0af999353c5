#![forbid(unsafe_code)]
//! Twograin.
