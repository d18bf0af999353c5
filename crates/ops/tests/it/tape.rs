use candle_core::{Device, Tensor, Var};
use twograin_ops::{Tape, add, cat, flatten, relu};

use crate::support::{check_gradients, differentiate, flat, var, weighted_sum};

#[test]
fn what_several_operations_use_gets_the_sum_of_its_gradients() {
    check_gradients(&[var(1, &[1, 2, 3, 4]), var(2, &[1, 2, 3, 4])], |tape, t| {
        let x = cat(tape, &t[0], &t[1])?;
        let y = cat(tape, &x, &t[0])?;
        cat(tape, &relu(tape, &x)?, &cat(tape, &y, &t[0])?)
    });
}

#[test]
fn an_output_without_influence_leaves_no_gradient() {
    let x = var(1, &[2, 3]);
    let tape = Tape::new();
    let used = tape.output(&relu(Some(&tape), &x).unwrap()).unwrap();
    let unused = var(2, &[2, 3]);
    tape.output(&relu(Some(&tape), &unused).unwrap()).unwrap();
    let mut gradients = weighted_sum(&used).unwrap().backward().unwrap();
    tape.backward(&mut gradients).unwrap();
    assert!(gradients.get(&x).is_some() && gradients.get(&unused).is_none());
}

#[test]
fn a_variable_on_both_sides_of_the_seam_gets_both_gradients() {
    let x = var(1, &[3]);
    let tape = Tape::new();
    let y = tape.output(&relu(Some(&tape), &x).unwrap()).unwrap();
    let mut gradients = (y.sum_all().unwrap() + x.sqr().unwrap().sum_all().unwrap()).unwrap().backward().unwrap();
    tape.backward(&mut gradients).unwrap();
    let expected: Vec<f64> = flat::<f64>(&x).iter().map(|&x| 2. * x + f64::from(u8::from(x > 0.))).collect();
    assert_eq!(flat::<f64>(gradients.get(&x).unwrap()), expected);
}

#[test]
fn what_the_tape_cannot_see_is_refused() {
    let x = Var::new(&[1f32, 2.], &Device::Cpu).unwrap();
    let tape = Tape::new();
    let message = relu(Some(&tape), &x.sqr().unwrap()).unwrap_err().to_string();
    assert!(message.contains("candle"), "{message}");
    assert!(relu(None, &x.sqr().unwrap()).is_ok());
}

#[test]
fn sums_pass_their_gradient_to_both_sides() {
    let operands = [var(1, &[2, 3]), var(2, &[2, 3])];
    check_gradients(&operands, |tape, t| add(tape, &relu(tape, &add(tape, &t[0], &t[1])?)?, &t[0]));
    check_gradients(&operands[..1], |tape, t| add(tape, &t[0], &t[0]));
    let message = add(None, &operands[0], &var(3, &[3, 2])).unwrap_err().to_string();
    assert!(message.contains("[2, 3]") && message.contains("[3, 2]"), "{message}");
}

#[test]
fn channels_are_joined_and_images_flattened() {
    let operands = [var(1, &[2, 3, 4, 5]), var(2, &[2, 2, 4, 5])];
    let (y, _) = differentiate(&operands, |tape, t| cat(tape, &t[0], &t[1]));
    let expected = Tensor::cat(&[operands[0].as_tensor(), operands[1].as_tensor()], 1).unwrap();
    assert_eq!(flat::<f64>(&y), flat::<f64>(&expected));
    check_gradients(&operands, |tape, t| {
        let x = cat(tape, &t[0], &t[1])?;
        flatten(tape, &cat(tape, &x, &t[0])?)
    });
}
