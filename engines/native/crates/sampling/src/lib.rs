//! Logits to a token.
//!
//! One [`Sampler`] belongs to one request. What it chooses follows from its parameters, the logits, the mask, the
//! tokens so far, and the number of the step: never from other requests, from the order in which requests are
//! served, or from the machine.
//!
//! # Order
//! 1. logit bias
//! 2. repetition penalty (tokens of prompt and completion), then frequency and presence penalty (completion only)
//! 3. the mask of allowed tokens
//! 4. temperature; at 0 the greatest logit wins, the lowest id among equals
//! 5. top-k, then top-p among what top-k left, then min-p
//! 6. a draw among what is left
//!
//! Steps 1 and 2 in the order of vLLM (`vllm/v1/sample/sampler.py`: logits processors, then
//! `apply_all_penalties`: repetition, frequency, presence), which is also that of Transformers
//! (`GenerationMixin._get_logits_processor`: sequence bias, then repetition penalty). Steps 4 and 5 are in
//! Transformers' order (the same function: temperature, top-k, top-p, min-p); vLLM cuts by min-p before top-k and
//! top-p, which differs only in what top-p takes its share of.
//!
//! Equal logits: Transformers and vLLM keep all tokens that tie with the last one kept. Here exactly k are kept,
//! the lower ids first; the same holds where top-p ends within a tie.
//!
//! # Why no order of summation matters
//! Probabilities are whole numbers: token i weighs `round(2^44 · exp((logit_i - max) / temperature))`, from an own
//! exponential without fused operations. Sums of whole numbers are exact, so every way to add them up, on any
//! instruction set, gives the same totals, the same cuts and the same draw. A token that weighs nothing (2^-45 of
//! the likeliest and less) is never drawn.
//!
//! # Random numbers
//! Philox4x32-10 with the seed as key and (step, stream) as counter: the number of a step exists without the
//! numbers before it.

mod arg_max;
mod history;
mod isa;
mod parameters;
mod philox;
mod sampler;
mod select;
mod weights;

pub use arg_max::{arg_max, arg_max_masked, Peak};
pub use parameters::Sampling;
pub use philox::philox;
pub use sampler::Sampler;
