use cupel_files::Config;
use cupel_kernels::{cos_sin, exp_f64, log_f64};

/// Cosines and sines of the rotary embedding, rows by position, `head_dim / 2` a row.
/// Frequencies and angles are rounded to f32 as the reference implementation (transformers) does.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    half: usize,
    frequencies: Vec<f32>,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rope {
    pub fn new(config: &Config) -> Self {
        let half = config.head_dim / 2;
        let log_theta = log_f64(config.rope_theta);
        let frequency = |pair: usize| {
            let exponent = f64::from((2 * pair) as f32 / config.head_dim as f32);
            (1.0 / exp_f64(exponent * log_theta)) as f32
        };
        let mut frequencies: Vec<f32> = (0..half).map(frequency).collect();
        if let Some(scaling) = &config.rope_scaling {
            scaling.apply(&mut frequencies);
        }
        Self { half, frequencies, cosines: Vec::new(), sines: Vec::new() }
    }

    /// Makes rows for positions `0..positions` available.
    pub fn reserve(&mut self, positions: usize) {
        for position in self.cosines.len() / self.half..positions {
            for frequency in &self.frequencies {
                let (cosine, sine) = cos_sin(f64::from(position as f32 * frequency));
                self.cosines.push(cosine as f32);
                self.sines.push(sine as f32);
            }
        }
    }

    pub fn row(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cosines[range.clone()], &self.sines[range])
    }
}
