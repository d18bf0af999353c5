//! Times a train step of a ResNet34 made of these operations, part by part. For work on the operations; run by hand:
//! `cargo run --release -p twograin-ops --example resnet34 -- PIXELS BATCH STEPS`.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor, Var};
use twograin_ops::{
    Activation, Conv2dConfig, Padding, Pool2dConfig, Tape, batch_norm_train, conv2d, global_avg_pool, linear,
    max_pool2d,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Convolution without bias and the batch norm after it.
struct ConvNorm {
    weight: Var,
    gamma: Var,
    beta: Var,
    config: Conv2dConfig,
}

impl ConvNorm {
    fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Result<Self> {
        let deviation = (2. / (outputs * kernel * kernel) as f32).sqrt();
        Ok(ConvNorm {
            weight: Var::randn(0f32, deviation, (outputs, inputs, kernel, kernel), &Device::Cpu)?,
            gamma: Var::ones(outputs, DType::F32, &Device::Cpu)?,
            beta: Var::zeros(outputs, DType::F32, &Device::Cpu)?,
            config: Conv2dConfig { stride, padding: Padding::same(kernel / 2), groups: 1 },
        })
    }

    fn forward(
        &self,
        tape: Option<&Tape>,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        let x = conv2d(tape, x, &self.weight, None, self.config)?;
        Ok(batch_norm_train(tape, &x, &self.gamma, &self.beta, residual, 1e-5, activation)?.y)
    }
}

struct Block {
    first: ConvNorm,
    second: ConvNorm,
    shortcut: Option<ConvNorm>,
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: usize) -> Result<Self> {
        let shortcut = (stride > 1 || inputs != outputs).then(|| ConvNorm::new(inputs, outputs, 1, stride));
        Ok(Block {
            first: ConvNorm::new(inputs, outputs, 3, stride)?,
            second: ConvNorm::new(outputs, outputs, 3, 1)?,
            shortcut: shortcut.transpose()?,
        })
    }

    fn forward(&self, tape: Option<&Tape>, x: &Tensor) -> Result<Tensor> {
        let residual = match &self.shortcut {
            Some(shortcut) => shortcut.forward(tape, x, None, Activation::Identity)?,
            None => x.clone(),
        };
        let y = self.first.forward(tape, x, None, Activation::Relu)?;
        self.second.forward(tape, &y, Some(&residual), Activation::Relu)
    }
}

struct ResNet34 {
    stem: ConvNorm,
    blocks: Vec<Block>,
    head: Var,
}

impl ResNet34 {
    fn new() -> Result<Self> {
        let mut blocks = vec![];
        let mut inputs = 64;
        for (stage, (count, outputs)) in [(3, 64), (4, 128), (6, 256), (3, 512)].into_iter().enumerate() {
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                blocks.push(Block::new(inputs, outputs, stride)?);
                inputs = outputs;
            }
        }
        let head = Var::randn(0f32, 0.05, (1000, 512), &Device::Cpu)?;
        Ok(ResNet34 { stem: ConvNorm::new(3, 64, 7, 2)?, blocks, head })
    }

    fn forward(&self, tape: Option<&Tape>, images: &Tensor) -> Result<Tensor> {
        let x = self.stem.forward(tape, images, None, Activation::Relu)?;
        let mut x = max_pool2d(tape, &x, Pool2dConfig::new(3, 2, 1))?;
        for block in &self.blocks {
            x = block.forward(tape, &x)?;
        }
        linear(tape, &global_avg_pool(tape, &x)?, &self.head, None)
    }
}

fn timed<R>(f: impl FnOnce() -> Result<R>) -> Result<(R, Duration)> {
    let start = Instant::now();
    let result = f()?;
    Ok((result, start.elapsed()))
}

fn best(times: Vec<Duration>) -> Duration {
    times.into_iter().min().unwrap_or_default()
}

/// Times forward and backward, the best of some steps.
fn measure(steps: usize, f: impl Fn(Option<&Tape>) -> Result<Tensor>) -> Result<[Duration; 2]> {
    let (mut forward, mut backward) = (vec![], vec![]);
    for _ in 0..steps {
        let tape = Tape::new();
        let (y, time) = timed(|| f(Some(&tape)))?;
        forward.push(time);
        let output = tape.output(&y)?;
        // The gradient of the output is not what is timed.
        let mut gradients = output.sum_all()?.backward()?;
        backward.push(timed(|| tape.backward(&mut gradients))?.1);
    }
    Ok([forward, backward].map(best))
}

/// Forward and backward of one operation whose operands are all variables.
fn report(name: &str, steps: usize, f: impl Fn(Option<&Tape>) -> Result<Tensor>) -> Result<()> {
    let [forward, backward] = measure(steps, f)?;
    println!("{name:34} forward {forward:9.2?}   backward {backward:9.2?}");
    Ok(())
}

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [pixels, batch, steps] = numbers[..] else {
        eprintln!("Usage: resnet34 PIXELS BATCH STEPS");
        return Ok(());
    };
    let network = ResNet34::new()?;
    let images = Tensor::randn(0f32, 1., (batch, 3, pixels, pixels), &Device::Cpu)?;
    let [forward, backward] = measure(steps, |tape| network.forward(tape, &images))?;
    println!("{pixels} px, batch {batch}: forward {forward:.1?}, backward {backward:.1?}");

    let random = |shape: &[usize]| Var::randn(0f32, 1., shape, &Device::Cpu);
    for (kernel, stride, inputs, outputs, scale) in [
        (7, 2, 3, 64, 1),
        (3, 1, 64, 64, 4),
        (3, 2, 64, 128, 4),
        (3, 1, 128, 128, 8),
        (3, 1, 256, 256, 16),
        (3, 1, 512, 512, 32),
        (1, 2, 64, 128, 4),
        (1, 1, 256, 64, 4),
    ] {
        let size = pixels / scale;
        let (x, weight) = (random(&[batch, inputs, size, size])?, random(&[outputs, inputs, kernel, kernel])?);
        let config = Conv2dConfig { stride, padding: Padding::same(kernel / 2), groups: 1 };
        let name = format!("conv {kernel}x{kernel} / {stride}, {inputs} -> {outputs}, {size} px");
        report(&name, steps, |tape| conv2d(tape, &x, &weight, None, config))?;
    }
    for stride in [1, 2] {
        let (x, weight) = (random(&[batch, 96, pixels / 4, pixels / 4])?, random(&[96, 1, 3, 3])?);
        let config = Conv2dConfig { stride, padding: Padding::same(1), groups: 96 };
        report(&format!("depthwise 3x3 / {stride}, 96"), steps, |tape| conv2d(tape, &x, &weight, None, config))?;
    }
    let (x, gamma, beta) = (random(&[batch, 64, pixels / 2, pixels / 2])?, random(&[64])?, random(&[64])?);
    let residual = random(x.dims())?;
    for (name, residual) in [("batch norm, relu", None), ("batch norm, residual, relu", Some(&*residual))] {
        report(name, steps, |tape| Ok(batch_norm_train(tape, &x, &gamma, &beta, residual, 1e-5, Activation::Relu)?.y))?;
    }
    report("max pool 3x3 / 2", steps, |tape| max_pool2d(tape, &x, Pool2dConfig::new(3, 2, 1)))?;
    report("global average pool", steps, |tape| global_avg_pool(tape, &x))
}
