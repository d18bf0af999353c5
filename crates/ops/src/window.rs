//! Where a window that moves along an axis meets the axis.

use std::ops::Range;

/// The outputs whose pixel at position `tap` of the window is inside the axis of `len` pixels, and the first such pixel; they
/// are `stride` apart. `padding`: pixels before the axis.
pub(crate) fn outputs_inside(
    tap: usize,
    stride: usize,
    padding: usize,
    len: usize,
    outputs: usize,
) -> (Range<usize>, usize) {
    let first = padding.saturating_sub(tap).div_ceil(stride);
    let end = (len + padding).saturating_sub(tap).div_ceil(stride).min(outputs);
    let first = first.min(end);
    (first..end, (first * stride + tap).saturating_sub(padding))
}

/// Fills `target` with the elements of `source` that are `stride` apart, from the first on.
#[inline(always)]
pub(crate) fn copy_strided<T: Copy>(source: &[T], stride: usize, target: &mut [T]) {
    match stride {
        1 => target.copy_from_slice(&source[..target.len()]),
        // In pairs, as the compiler does not see through `step_by`: half of a register's lanes are dropped.
        2 => {
            let (pairs, rest) = source.as_chunks::<2>();
            let paired = pairs.len().min(target.len());
            let (target, last) = target.split_at_mut(paired);
            for (target, pair) in target.iter_mut().zip(&pairs[..paired]) {
                *target = pair[0];
            }
            for (target, &value) in last.iter_mut().zip(rest) {
                *target = value;
            }
        }
        _ => {
            for (target, &value) in target.iter_mut().zip(source.iter().step_by(stride)) {
                *target = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{copy_strided, outputs_inside};

    #[test]
    fn copies_every_nth_element_up_to_the_last() {
        let source: Vec<usize> = (0..50).collect();
        for stride in 1..4 {
            for len in 0..=50usize.div_ceil(stride) {
                let mut target = vec![99; len];
                copy_strided(&source[..(len.max(1) - 1) * stride + len.min(1)], stride, &mut target);
                assert!(target.iter().enumerate().all(|(i, &value)| value == i * stride));
            }
        }
    }

    #[test]
    fn agrees_with_trying_each_output() {
        for tap in 0..5 {
            for stride in 1..4 {
                for padding in 0..5 {
                    for len in 1..6 {
                        let outputs = 7;
                        let pixel = |output: usize| (output * stride + tap).checked_sub(padding).filter(|&at| at < len);
                        let expected: Vec<usize> = (0..outputs).filter(|&output| pixel(output).is_some()).collect();
                        let (inside, first) = outputs_inside(tap, stride, padding, len, outputs);
                        assert_eq!(inside.clone().collect::<Vec<_>>(), expected);
                        assert!(inside.is_empty() || pixel(inside.start) == Some(first));
                    }
                }
            }
        }
    }
}
