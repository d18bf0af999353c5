//! Times one convolution, pass by pass. For work on the operations; run by hand:
//! `cargo run --release -p twograin-ops --example conv -- CHANNELS FILTERS PIXELS KERNEL STRIDE GROUPS BATCH STEPS`.

use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor, Var};
use twograin_ops::{Conv2dConfig, Padding, Tape, conv2d};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [channels, filters, pixels, kernel, stride, groups, batch, steps] = numbers[..] else {
        eprintln!("Usage: conv CHANNELS FILTERS PIXELS KERNEL STRIDE GROUPS BATCH STEPS");
        return Ok(());
    };
    let config = Conv2dConfig { stride, padding: Padding::same(kernel / 2), groups };
    let x = Var::randn(0f32, 1., (batch, channels, pixels, pixels), &Device::Cpu)?;
    let weight = Var::randn(0f32, 1., (filters, channels / groups, kernel, kernel), &Device::Cpu)?;
    let mut best = [Duration::MAX; 3];
    for _ in 0..steps {
        let start = Instant::now();
        let y = conv2d(None, &x, &weight, None, config)?;
        best[0] = best[0].min(start.elapsed());
        for (operands, best) in
            [(&x.detach(), weight.as_tensor()), (x.as_tensor(), &weight.detach())].iter().zip(&mut best[1..])
        {
            let tape = Tape::new();
            let output = tape.output(&conv2d(Some(&tape), operands.0, operands.1, None, config)?)?;
            // Its gradient is made before the clock starts.
            let mut gradients = output.backward()?;
            gradients.insert(&output, Tensor::ones_like(&y)?);
            let start = Instant::now();
            tape.backward(&mut gradients)?;
            *best = (*best).min(start.elapsed());
        }
    }
    let [forward, weight, data] = best.map(|time| time.as_secs_f64() * 1e3);
    let products = batch * filters * (channels / groups) * kernel * kernel * (pixels / stride) * (pixels / stride);
    let rate = |ms: f64| 2e-6 * products as f64 / ms;
    println!(
        "forward {forward:.2} ms ({:.0} GFLOP/s)   weight {weight:.2} ms ({:.0})   data {data:.2} ms ({:.0})",
        rate(forward),
        rate(weight),
        rate(data)
    );
    Ok(())
}
