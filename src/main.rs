#![forbid(unsafe_code)]
//! Parses the command line and calls into [`twograin::cli`].

use std::process::ExitCode;

/// Keeps large blocks: with glibc's allocator each training step would map and fault in its activations again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    twograin::cli::main()
}
