//! The operations through their public interface, against plain loops in double precision, finite differences and PyTorch.

mod activation;
mod batch_norm;
mod conv;
mod dropout;
mod errors;
mod linear;
mod optimizer;
mod pool;
mod support;
mod tape;
mod torch;
