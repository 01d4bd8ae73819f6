//! Kernels over rows. Sums run in 16 lanes: element `i` goes to lane `i % 16` in index order, then the lanes
//! are folded in halves (8, 4, 2, 1).

// Index loops over fixed lanes are what the compiler turns into vectors.
#![allow(clippy::needless_range_loop, clippy::too_many_arguments)]

use super::math::exp;
use super::Isa;

const LANES: usize = 16;

macro_rules! kernel {
    ($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        pub fn $name(isa: Isa, $($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body($($argument: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $result)? { body($($argument),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
            fn avx512($($argument: $type),*) $(-> $result)? { body($($argument),*) }
            match isa.float() {
                // SAFETY: an `Isa` other than scalar is only made when the machine has its features.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { avx512($($argument),*) },
                _ => body($($argument),*),
            }
        }
    };
}

pub(crate) use kernel;

#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum over `term(i)` in lanes.
#[inline(always)]
fn sum_lanes(length: usize, term: impl Fn(usize, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = length / LANES * LANES;
    let mut start = 0;
    while start < whole {
        for lane in 0..LANES {
            lanes[lane] = term(start + lane, lanes[lane]);
        }
        start += LANES;
    }
    for lane in 0..length - whole {
        lanes[lane] = term(whole + lane, lanes[lane]);
    }
    fold(lanes)
}

#[inline(always)]
fn maximum(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] = if *value > lanes[lane] { *value } else { lanes[lane] };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, |best, value| if value > best { value } else { best })
}

kernel! {
    /// Sum of products.
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        let b = &b[..a.len()];
        sum_lanes(a.len(), |i, sum| a[i].mul_add(b[i], sum))
    }
}

kernel! {
    /// Sum of squares.
    fn sum_squares(values: &[f32]) -> f32 {
        sum_lanes(values.len(), |i, sum| values[i].mul_add(values[i], sum))
    }
}

kernel! {
    /// `out = x / sqrt(mean(x²) + eps) · weight`; returns the inverse root.
    fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) -> f32 {
        let (weight, out) = (&weight[..x.len()], &mut out[..x.len()]);
        let mean = sum_lanes(x.len(), |i, sum| x[i].mul_add(x[i], sum)) / x.len() as f32;
        let inverse = 1.0 / (mean + eps).sqrt();
        for i in 0..x.len() {
            out[i] = x[i] * inverse * weight[i];
        }
        inverse
    }
}

kernel! {
    /// Adds the gradient of `rms_norm` to `dx` and to `dweight`.
    fn rms_norm_backward(dy: &[f32], x: &[f32], weight: &[f32], inverse: f32, dx: &mut [f32], dweight: &mut [f32]) {
        let length = x.len();
        let (dy, weight, dx, dweight) = (&dy[..length], &weight[..length], &mut dx[..length], &mut dweight[..length]);
        let projection = sum_lanes(length, |i, sum| (dy[i] * weight[i]).mul_add(x[i], sum));
        let factor = projection * inverse * inverse * inverse / length as f32;
        for i in 0..length {
            dweight[i] += dy[i] * (x[i] * inverse);
            dx[i] += (-factor).mul_add(x[i], dy[i] * weight[i] * inverse);
        }
    }
}

kernel! {
    /// `values += other`.
    fn add(values: &mut [f32], other: &[f32]) {
        let other = &other[..values.len()];
        for i in 0..values.len() {
            values[i] += other[i];
        }
    }
}

/// Replaces values by `exp(value - top)` and sums them in lanes.
#[inline(always)]
fn exponentials_and_sum(values: &mut [f32], top: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - top);
        }
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, value) in rest.iter_mut().enumerate() {
        *value = exp(*value - top);
        lanes[lane] += *value;
    }
    fold(lanes)
}

kernel! {
    /// Scales scores and turns them into probabilities in place. Returns the largest scaled score and the inverse of the
    /// sum of their exponentials, which is not finite or zero if one of them is not a number.
    fn softmax(values: &mut [f32], scale: f32) -> (f32, f32) {
        for i in 0..values.len() {
            values[i] *= scale;
        }
        let top = maximum(values);
        let inverse = 1.0 / exponentials_and_sum(values, top);
        for i in 0..values.len() {
            values[i] *= inverse;
        }
        (top, inverse)
    }
}

kernel! {
    /// What `softmax` makes of the same scores, given what it returned.
    fn softmax_again(values: &mut [f32], scale: f32, top: f32, inverse: f32) {
        for i in 0..values.len() {
            values[i] = exp(values[i] * scale - top) * inverse;
        }
    }
}

kernel! {
    /// Turns probabilities `p` and their gradients `dp` into the gradient of the unscaled scores, in `dp`:
    /// `p (dp - shift) scale`.
    fn softmax_backward(p: &[f32], dp: &mut [f32], shift: f32, scale: f32) {
        let p = &p[..dp.len()];
        for i in 0..dp.len() {
            dp[i] = p[i] * (dp[i] - shift) * scale;
        }
    }
}

kernel! {
    /// Turns logits into `exp(logit - max)` in place; returns the maximum and the sum.
    fn exponentials(logits: &mut [f32]) -> (f32, f32) {
        let top = maximum(logits);
        let sum = exponentials_and_sum(logits, top);
        (top, sum)
    }
}

kernel! {
    /// The maximum and the sum of `exp(logit - max)`, leaving the logits.
    fn log_sum(logits: &[f32]) -> (f32, f32) {
        let top = maximum(logits);
        (top, sum_lanes(logits.len(), |i, sum| sum + exp(logits[i] - top)))
    }
}

kernel! {
    /// `values *= factor`.
    fn scale(values: &mut [f32], factor: f32) {
        for i in 0..values.len() {
            values[i] *= factor;
        }
    }
}

kernel! {
    /// `out = silu(gate) · up`, where `gate_up` holds all gates and then all ups.
    fn silu_product(gate_up: &[f32], out: &mut [f32]) {
        let (gate, up) = gate_up.split_at(out.len());
        let up = &up[..out.len()];
        for i in 0..out.len() {
            let sigmoid = 1.0 / (1.0 + exp(-gate[i]));
            out[i] = gate[i] * sigmoid * up[i];
        }
    }
}

kernel! {
    /// Given the gradient of `silu_product` in `out`, replaces `gate_up` by its gradient and `out` by the product.
    fn silu_product_backward(gate_up: &mut [f32], out: &mut [f32]) {
        let (gate, up) = gate_up.split_at_mut(out.len());
        let up = &mut up[..out.len()];
        for i in 0..out.len() {
            let sigmoid = 1.0 / (1.0 + exp(-gate[i]));
            let silu = gate[i] * sigmoid;
            let d = out[i];
            out[i] = silu * up[i];
            gate[i] = d * up[i] * (sigmoid * (gate[i] * (1.0 - sigmoid) + 1.0));
            up[i] = d * silu;
        }
    }
}

kernel! {
    /// Rotates the halves of one head by the angles of its position; `direction` -1 rotates back.
    fn rotate(head: &mut [f32], cosines: &[f32], sines: &[f32], direction: f32) {
        let half = cosines.len();
        let (first, second) = head.split_at_mut(half);
        let (second, sines) = (&mut second[..half], &sines[..half]);
        for i in 0..half {
            let (a, b) = (first[i], second[i]);
            let sine = sines[i] * direction;
            first[i] = a * cosines[i] - b * sine;
            second[i] = b * cosines[i] + a * sine;
        }
    }
}

kernel! {
    /// AdamW on one run of parameters. `clip` scales the gradient, `decay` is `1 - lr · weight_decay`, `rate` is
    /// `lr / (1 - beta1^t)`, `root` is `sqrt(1 - beta2^t)`. Clears the gradient.
    fn adamw(
        weight: &mut [f32],
        gradient: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        clip: f32,
        decay: f32,
        one_minus_beta1: f32,
        beta2: f32,
        one_minus_beta2: f32,
        rate: f32,
        root: f32,
        eps: f32,
    ) {
        let length = weight.len();
        let (gradient, first, second) = (&mut gradient[..length], &mut first[..length], &mut second[..length]);
        for i in 0..length {
            let g = gradient[i] * clip;
            let m = (g - first[i]).mul_add(one_minus_beta1, first[i]);
            let v = (g * g).mul_add(one_minus_beta2, second[i] * beta2);
            first[i] = m;
            second[i] = v;
            weight[i] = weight[i] * decay - rate * (m / (v.sqrt() / root + eps));
            gradient[i] = 0.0;
        }
    }
}
