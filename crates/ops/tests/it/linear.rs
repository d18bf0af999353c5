use candle_core::{DType, Tensor, Var};
use proptest::prelude::*;
use twograin_ops::linear;

use crate::support::{assert_close, bits, check_gradients, flat, flat64, tensor, var, with_threads};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn agrees_with_the_product_of_matrices(n in 1usize..20, inputs in 1usize..50, outputs in 1usize..20, bias: bool) {
        let (x, weight) = (var(1, &[n, inputs]), var(2, &[outputs, inputs]));
        let bias = bias.then(|| var(3, &[outputs]));
        let mut expected = x.matmul(&weight.t().unwrap()).unwrap();
        if let Some(bias) = &bias {
            expected = expected.broadcast_add(bias).unwrap();
        }
        let mut operands = vec![x, weight];
        operands.extend(bias);
        let got = linear(None, &operands[0], &operands[1], operands.get(2).map(|bias| &**bias)).unwrap();
        assert_close("y", &flat(&got), &flat(&expected), 1e-13);
        let single: Vec<Tensor> = operands.iter().map(|t| t.to_dtype(DType::F32).unwrap()).collect();
        let got = linear(None, &single[0], &single[1], single.get(2)).unwrap();
        let bound = f64::from(f32::EPSILON) * ((inputs + 4) * inputs) as f64;
        assert_close("y in f32", &flat64(&got), &flat(&expected), bound);
        check_gradients(&operands, |tape, t| linear(tape, &t[0], &t[1], t.get(2)));
    }
}

#[test]
fn a_strided_view_is_read_as_its_elements() {
    let (x, weight, bias) = (tensor(1, &[6, 4]).t().unwrap(), tensor(2, &[6, 5]).t().unwrap(), tensor(3, &[5]));
    let got = linear(None, &x, &weight, Some(&bias)).unwrap();
    let [x, weight] = [x, weight].map(|t| t.force_contiguous().unwrap());
    assert_eq!(flat::<f64>(&got), flat::<f64>(&linear(None, &x, &weight, Some(&bias)).unwrap()));
}

#[test]
fn the_same_call_gives_the_same_bits() {
    let operands = [tensor(1, &[33, 700]), tensor(2, &[300, 700]), tensor(3, &[300])]
        .map(|t| Var::from_tensor(&t.to_dtype(DType::F32).unwrap()).unwrap());
    let run = || bits(&operands, |tape, t| linear(tape, &t[0], &t[1], t.get(2)));
    let first = with_threads(2, run);
    for _ in 0..5 {
        assert!(with_threads(2, run) == first);
    }
}
