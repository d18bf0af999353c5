//! Reverse-mode differentiation of the operations of this crate.
//!
//! candle's own graph adds each gradient to a tensor of zeros and keeps every intermediate tensor until the whole backward pass
//! is over. For images that is half of the time and of the memory of a training step. So the operations here note on a
//! [`Tape`] what their backward pass needs; the tape is run once, from its end, and drops each note after its use.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fmt,
};

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, TensorId, Var, backprop::GradStore, bail};
use rayon::prelude::*;

use crate::float::{elements, elements_mut, with_float};

/// The operations of one forward pass, in order. Pass it to the operations to be differentiated, or `None` where no gradient
/// is wanted.
///
/// Variables ([`Var`]) are where gradients are wanted. What comes after the last operation (a loss) is candle's to
/// differentiate; [`Tape::output`] is the seam between them:
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use twograin_ops::{Tape, relu};
/// # fn main() -> candle_core::Result<()> {
/// let x = Var::new(&[-1f32, 2., 3.], &Device::Cpu)?;
/// let tape = Tape::new();
/// let y = tape.output(&relu(Some(&tape), &x)?)?;
/// let mut gradients = y.sqr()?.sum_all()?.backward()?;
/// tape.backward(&mut gradients)?;
/// assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>()?, [0., 4., 6.]);
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Tape {
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    /// Results of operations that depend on a variable.
    tracked: HashSet<TensorId>,
    steps: Vec<Step>,
    /// Variables for candle, with the tensors of the tape that they stand for.
    outputs: Vec<(Var, TensorId)>,
}

struct Step {
    output: TensorId,
    backward: Backward,
}

/// Takes the gradient of a step's output to those of its inputs. It may write to the gradient it is given.
type Backward = Box<dyn FnOnce(Tensor, &mut Gradients) -> Result<()>>;

/// An operand whose gradient is wanted; `None` for one whose gradient is not.
pub(crate) type Target = Option<TensorId>;

impl Tape {
    /// Nothing noted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `x` as a variable of candle, so that what is computed from it further on has a gradient there.
    ///
    /// # Errors
    /// If the copy cannot be made.
    pub fn output(&self, x: &Tensor) -> Result<Tensor> {
        let Some(id) = self.target(x) else { return Ok(x.clone()) };
        let var = Var::from_tensor(&x.detach())?;
        let tensor = var.as_tensor().clone();
        self.notes.borrow_mut().outputs.push((var, id));
        Ok(tensor)
    }

    /// Adds the gradients of the tape's variables to `gradients`, which must hold those of its [outputs](Self::output); an
    /// output without one has had no effect.
    ///
    /// # Errors
    /// If an operation fails.
    pub fn backward(self, gradients: &mut GradStore) -> Result<()> {
        let Notes { tracked, mut steps, outputs } = self.notes.into_inner();
        let mut store = Gradients::default();
        for (var, id) in outputs {
            if let Some(gradient) = gradients.remove(&var) {
                // Copied, as candle may have made it by broadcasting, and it will be written to.
                store.add(Some(id), || gradient.force_contiguous())?;
            }
        }
        while let Some(Step { output, backward }) = steps.pop() {
            if let Some(gradient) = store.0.remove(&output) {
                backward(gradient, &mut store)?;
            }
        }
        for (id, gradient) in store.0 {
            if tracked.contains(&id) {
                bail!("tape: a gradient was left over")
            }
            let sum = match gradients.get_id(id) {
                Some(other) => (other + gradient)?,
                None => gradient,
            };
            gradients.insert_id(id, sum);
        }
        Ok(())
    }

    fn target(&self, x: &Tensor) -> Target {
        (x.is_variable() || self.notes.borrow().tracked.contains(&x.id())).then(|| x.id())
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").field("steps", &self.notes.borrow().steps.len()).finish()
    }
}

/// Notes that `output` was computed from `inputs`, if a tape is given and one of them has a gradient. `backward` gets the
/// gradient of `output`, which is contiguous and no one else's, and where to put those of `inputs`.
///
/// # Errors
/// If an input was computed from a variable by candle: its gradient would be lost.
pub(crate) fn record<const N: usize>(
    tape: Option<&Tape>,
    inputs: [Option<&Tensor>; N],
    output: &Tensor,
    backward: impl FnOnce(Tensor, [Target; N], &mut Gradients) -> Result<()> + 'static,
) -> Result<()> {
    let Some(tape) = tape else { return Ok(()) };
    if inputs.iter().flatten().any(|input| input.track_op() && !input.is_variable()) {
        bail!("tape: an operand is the result of an operation of candle's, which the tape cannot differentiate")
    }
    let targets = inputs.map(|input| input.and_then(|input| tape.target(input)));
    if targets.iter().all(Option::is_none) {
        return Ok(());
    }
    let mut notes = tape.notes.borrow_mut();
    notes.tracked.insert(output.id());
    let backward = Box::new(move |dy, gradients: &mut Gradients| backward(dy, targets, gradients));
    notes.steps.push(Step { output: output.id(), backward });
    Ok(())
}

/// Gradients on their way back.
#[derive(Default)]
pub(crate) struct Gradients(HashMap<TensorId, Tensor>);

impl Gradients {
    /// Adds a gradient where one is wanted. The tensor must be contiguous and share its elements with no other, as it will be
    /// written to.
    pub(crate) fn add(&mut self, target: Target, gradient: impl FnOnce() -> Result<Tensor>) -> Result<()> {
        let Some(id) = target else { return Ok(()) };
        let gradient = gradient()?;
        match self.0.get(&id) {
            Some(sum) => sum.inplace_op2(&gradient, &AddAssign)?,
            None => {
                self.0.insert(id, gradient);
            }
        }
        Ok(())
    }
}

/// `sum += x`
struct AddAssign;

impl InplaceOp2 for AddAssign {
    fn name(&self) -> &'static str {
        "add-assign"
    }

    fn cpu_fwd(&self, sum: &mut CpuStorage, layout: &Layout, x: &CpuStorage, x_layout: &Layout) -> Result<()> {
        const CHUNK: usize = 1 << 15;
        with_float!(x, self.name(), T => {
            let x = elements::<T>(self.name(), x, x_layout)?;
            let sum = elements_mut::<T>(self.name(), sum, layout)?;
            sum.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(sum, x)| {
                for (sum, &x) in sum.iter_mut().zip(x) {
                    *sum += x;
                }
            });
        });
        Ok(())
    }
}
