//! Bits do not depend on instruction set, threads, batch, neighbours, order or how a prompt is split.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use cupel_core::internals::{self, gemm, pack_columns, pack_rows, panel_count, Isa, Left, Panels};
use cupel_core::{
    Constraint, Dtype, Engine, Error, Finish, GenerateRequest, Generated, Learner, LearnerOptions, Model, OpenOptions,
    ScoreItem, Scored, StepOptions,
};

const MODELS: [&str; 3] = ["llama-untied", "llama-tied-gqa9", "qwen2-tied"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures/reference/models").join(name)
}

fn open_with(name: &str, threads: usize, isa: Isa) -> Result<Learner, Error> {
    Learner::open_with(&folder(name), &LearnerOptions { threads, isa: Some(isa), ..LearnerOptions::default() })
}

fn isas() -> Vec<Isa> {
    [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.is_available()).collect()
}

/// The vector instruction sets; the plain one, slow without them, is the reference that they are held against.
fn fast() -> Vec<Isa> {
    let all = isas();
    if all.len() > 1 {
        all[1..].to_vec()
    } else {
        all
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 20) as usize % limit
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() >> 40) as f32 / 4_194_304.0 - 2.0).collect()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn products_of_odd_shapes_have_the_bits_of_a_plain_chain() {
    let mut random = Random(7);
    for (m, n, k) in [
        (1, 1, 1),
        (1, 70, 33),
        (2, 33, 300),
        (3, 17, 5),
        (5, 16, 16),
        (7, 50, 513),
        (13, 31, 9),
        (25, 100, 257),
        (73, 40, 64),
    ] {
        let (a, b, start) = (random.floats(m * k), random.floats(k * n), random.floats(m * n));
        let mut expected = start.clone();
        for row in 0..m {
            for column in 0..n {
                let chain = |sum: f32, step: usize| a[row * k + step].mul_add(b[step * n + column], sum);
                expected[row * n + column] = (0..k).fold(start[row * n + column], chain);
            }
        }
        let transposed = |rows: usize, columns: usize, values: &[f32]| -> Vec<f32> {
            (0..rows * columns).map(|index| values[index % rows * columns + index / rows]).collect()
        };
        let (a_turned, b_turned) = (transposed(m, k, &a), transposed(k, n, &b));
        for isa in isas() {
            for turned in [false, true] {
                let mut panels = Panels::zeroed(k, n);
                for panel in 0..panel_count(n) {
                    let lines = &mut panels.lines[panel * k..][..k];
                    if turned {
                        pack_rows(&b_turned, k, n, panel, lines);
                    } else {
                        pack_columns(&b, n, n, panel, lines);
                    }
                }
                let left = if turned { Left::columns(&a_turned, m) } else { Left::rows(&a, k) };
                let mut c = start.clone();
                gemm(isa, (m, n, k), left, &panels.lines, k, &mut c, n, true);
                assert_eq!(bits(&c), bits(&expected), "{isa:?} {m} {n} {k} {turned}");
            }
        }
    }
}

#[test]
fn row_kernels_have_the_same_bits_on_every_instruction_set() {
    let mut random = Random(11);
    for length in [1, 2, 15, 16, 17, 31, 33, 64, 100, 257] {
        let (x, y, w) = (random.floats(length), random.floats(length), random.floats(length));
        let both = random.floats(2 * length);
        let run = |isa: Isa| -> Vec<u32> {
            let mut out = vec![internals::dot(isa, &x, &y), internals::sum_squares(isa, &x)];
            let mut a = vec![0.0; length];
            let inverse = internals::rms_norm(isa, &x, &w, 1e-5, &mut a);
            out.extend(&a);
            let (mut dx, mut dw) = (y.clone(), w.clone());
            internals::rms_norm_backward(isa, &y, &x, &w, inverse, &mut dx, &mut dw);
            out.extend(dx.iter().chain(&dw));
            let mut p = x.clone();
            internals::softmax(isa, &mut p, 0.3);
            let mut dp = y.clone();
            internals::softmax_backward(isa, &p, &mut dp, 0.1, 0.3);
            out.extend(p.iter().chain(&dp));
            let mut e = x.clone();
            let (top, sum) = internals::exponentials(isa, &mut e);
            assert_eq!(internals::log_sum(isa, &x), (top, sum));
            out.extend([top, sum]);
            let mut product = vec![0.0; length];
            internals::silu_product(isa, &both, &mut product);
            let (mut gradient, mut d) = (both.clone(), y.clone());
            internals::silu_product_backward(isa, &mut gradient, &mut d);
            assert_eq!(bits(&d), bits(&product));
            out.extend(product.iter().chain(&gradient));
            let mut turned = both.clone();
            internals::rotate(isa, &mut turned, &x, &y, -1.0);
            out.extend(turned);
            let mut state = [w.clone(), y.clone(), x.clone(), y.iter().map(|v| v * v).collect::<Vec<f32>>()];
            let [weight, g, m, v] = &mut state;
            internals::adamw(isa, weight, g, m, v, 0.7, 0.99, 0.1, 0.95, 0.05, 1e-3, 0.3, 1e-8);
            out.extend(state.iter().flatten());
            bits(&out)
        };
        let reference = run(Isa::Scalar);
        for isa in isas() {
            assert_eq!(run(isa), reference, "{isa:?} {length}");
        }
    }
}

fn train(name: &str, threads: usize, isa: Isa) -> Vec<Vec<u32>> {
    let mut random = Random(5);
    let mut learner = open_with(name, threads, isa).unwrap();
    let vocabulary = learner.config().vocabulary_size;
    if threads == 3 {
        // Logits are computed again in runs of 72 rows.
        learner.limit_kept_logits(0);
    }
    let mut out = Vec::new();
    for _ in 0..2 {
        let (mut tokens, mut offsets, mut labelled) = (Vec::new(), vec![0], Vec::new());
        for length in [1, 3, 60, 17, 100, 2] {
            tokens.extend((0..length).map(|_| random.below(vocabulary) as i32));
            labelled.extend((0..length).map(|position| u8::from(position > 0 && position % 3 != 1)));
            offsets.push(tokens.len() as i32);
        }
        let scores = learner.forward(&tokens, &offsets, &labelled, true).unwrap();
        let unkept = learner.forward(&tokens, &offsets, &labelled, false).unwrap();
        assert_eq!(bits(&scores), bits(&unkept));
        learner.backward(&random.floats(scores.len())).unwrap();
        out.push(bits(&scores));
        for name in learner.tensor_names() {
            out.push(bits(&learner.gradient(&name).unwrap()));
        }
        let options =
            StepOptions { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, max_grad_norm: 1.0 };
        out.push(vec![learner.step(options).unwrap().to_bits()]);
    }
    for name in learner.tensor_names() {
        out.push(bits(&learner.tensor(&name).unwrap()));
    }
    out
}

#[test]
fn training_has_the_same_bits_for_any_threads_and_instruction_set() {
    for name in MODELS {
        let reference = train(name, 1, Isa::Scalar);
        for (threads, isa) in fast().into_iter().flat_map(|isa| [(1, isa), (2, isa), (3, isa)]) {
            assert!(train(name, threads, isa) == reference, "{name} {threads} {isa:?}");
        }
    }
}

fn prompts(vocabulary: usize) -> Vec<Vec<u32>> {
    let mut random = Random(3);
    let shared: Vec<u32> = (0..21).map(|_| random.below(vocabulary) as u32).collect();
    let with_length = |length: usize, random: &mut Random| {
        let mut prompt = shared.clone();
        prompt.extend((0..length).map(|_| random.below(vocabulary) as u32));
        prompt
    };
    [1, 40, 7, 0, 90, 13, 2, 29].into_iter().map(|length| with_length(length, &mut random)).collect()
}

fn request(prompt: &[u32], max_tokens: usize) -> GenerateRequest {
    GenerateRequest { prompt: prompt.to_vec(), max_tokens, end_tokens: vec![5, 9], ..GenerateRequest::default() }
}

fn open(name: &str, threads: usize, isa: Isa) -> Arc<Model> {
    Arc::new(Model::open(&folder(name), &OpenOptions { threads, isa: Some(isa), ..OpenOptions::default() }).unwrap())
}

/// Completions in the order of the requests, by a fresh engine.
fn complete(model: &Arc<Model>, requests: Vec<GenerateRequest>, max_batch: usize) -> Vec<Generated> {
    let mut done = Vec::new();
    let mut engine = Engine::new(Arc::clone(model), max_batch);
    engine.generate(requests, &mut |index, generated| done.push((index, generated)), &AtomicBool::new(false)).unwrap();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, generated)| generated).collect()
}

fn score(model: &Arc<Model>, items: &[ScoreItem]) -> Vec<(Vec<u32>, Vec<bool>)> {
    let scored = Engine::new(Arc::clone(model), 4).score(items.to_vec(), &AtomicBool::new(false)).unwrap();
    scored.into_iter().map(|Scored { log_probabilities, is_greedy }| (bits(&log_probabilities), is_greedy)).collect()
}

#[test]
fn completions_do_not_depend_on_batch_order_threads_or_shared_prefixes() {
    for name in MODELS {
        let model = open(name, 1, Isa::Scalar);
        let prompts = prompts(model.config().vocabulary_size);
        let alone: Vec<Vec<u32>> =
            prompts.iter().map(|prompt| complete(&model, vec![request(prompt, 24)], 1).remove(0).tokens).collect();
        assert!(alone.iter().any(|tokens| tokens.len() > 10));
        for (threads, batch, isa) in fast().into_iter().flat_map(|isa| [(1, 3, isa), (2, 8, isa), (3, 5, isa)]) {
            let model = open(name, threads, isa);
            let done = complete(&model, prompts.iter().map(|prompt| request(prompt, 24)).collect(), batch);
            assert!(done.iter().skip(1).all(|generated| generated.cached_tokens >= 20));
            let tokens: Vec<_> = done.into_iter().map(|generated| generated.tokens).collect();
            assert_eq!(tokens, alone, "{name} {threads} {batch} {isa:?}");
            let reversed = complete(&model, prompts.iter().rev().map(|prompt| request(prompt, 24)).collect(), batch);
            let tokens: Vec<_> = reversed.into_iter().rev().map(|generated| generated.tokens).collect();
            assert_eq!(tokens, alone);
        }
    }
}

#[test]
fn scores_equal_the_learner_and_do_not_depend_on_how_a_text_is_split_or_what_is_beside_it() {
    for name in MODELS {
        let mut random = Random(19);
        let model = open(name, 1, Isa::Scalar);
        let vocabulary = model.config().vocabulary_size;
        let text: Vec<u32> = (0..70).map(|_| random.below(vocabulary) as u32).collect();
        let item = |context: usize, end: usize| ScoreItem {
            context: text[..context].to_vec(),
            continuation: text[context..end].to_vec(),
            adapter: None,
        };
        let mut whole = score(&model, &[item(1, 70)]).remove(0);
        assert_eq!(whole.0.len(), 69);
        let mut learner = open_with(name, 2, Isa::detect()).unwrap();
        let tokens: Vec<i32> = text.iter().map(|token| *token as i32).collect();
        let labelled: Vec<u8> = (0..70).map(|position| u8::from(position > 0)).collect();
        assert_eq!(bits(&learner.forward(&tokens, &[0, 70], &labelled, true).unwrap()), whole.0);
        for (threads, isa) in fast().into_iter().flat_map(|isa| [(1, isa), (2, isa)]) {
            let model = open(name, threads, isa);
            // Token by token, each with its own context; equal contexts with other continuations beside them.
            let mut items: Vec<ScoreItem> = (1..70).map(|context| item(context, context + 1)).collect();
            items.extend((1..70).step_by(5).map(|context| item(context, 70)));
            items.extend((1..70).step_by(7).map(|context| ScoreItem {
                context: text[..context].to_vec(),
                continuation: vec![0, 1, 2],
                adapter: None,
            }));
            let scored = score(&model, &items);
            for (item, (values, greedy)) in items.iter().zip(scored).take(69 + 14) {
                let start = item.context.len() - 1;
                assert_eq!(values, whole.0[start..start + values.len()], "{name} {isa:?} {start}");
                assert_eq!(greedy, whole.1[start..start + values.len()]);
            }
        }
        // Greedy flags agree with generation.
        let done = complete(
            &model,
            vec![GenerateRequest {
                prompt: text[..30].to_vec(),
                max_tokens: 12,
                end_tokens: vec![],
                ..GenerateRequest::default()
            }],
            1,
        );
        whole = score(
            &model,
            &[ScoreItem { context: text[..30].to_vec(), continuation: done[0].tokens.clone(), adapter: None }],
        )
        .remove(0);
        assert_eq!(whole.1, vec![true; 12]);
    }
}

#[test]
fn a_bad_request_ends_with_its_own_error_and_leaves_the_others() {
    let model = open("llama-untied", 1, Isa::detect());
    let good = [1, 2, 3];
    let requests = vec![
        request(&[], 4),
        request(&good, 4),
        request(&[1, 99_999], 4),
        request(&[1; 300], 4),
        request(&good, 0),
        request(&[1; 256], 4),
    ];
    let done = complete(&model, requests, 4);
    let code = |index: usize| match &done[index].finish {
        Finish::Error(Error { code, .. }) => code,
        _ => "",
    };
    assert_eq!(code(0), "CUPEL_NATIVE_REQUEST_INVALID");
    assert_eq!(code(2), "CUPEL_NATIVE_TOKEN_OUT_OF_RANGE");
    assert_eq!(code(3), "CUPEL_NATIVE_CONTEXT_OVERFLOW");
    assert_eq!(done[1].tokens, complete(&model, vec![request(&good, 4)], 1)[0].tokens);
    assert_eq!((&done[4].finish, &done[5].finish), (&Finish::Length, &Finish::Length));
    let long = complete(
        &model,
        vec![GenerateRequest {
            prompt: vec![1; 250],
            max_tokens: 100,
            end_tokens: vec![],
            ..GenerateRequest::default()
        }],
        1,
    );
    assert_eq!((long[0].tokens.len(), &long[0].finish), (6, &Finish::Length));
    let mut engine = Engine::new(Arc::clone(&model), 1);
    let empty = engine
        .score(vec![ScoreItem { context: vec![], continuation: vec![1], adapter: None }], &AtomicBool::new(false))
        .unwrap_err();
    assert_eq!((empty.code, empty.place.as_deref()), ("CUPEL_NATIVE_REQUEST_INVALID", Some("items[0]")));
    let cancelled = engine.generate(vec![request(&good, 4)], &mut |_, _| {}, &AtomicBool::new(true)).unwrap_err();
    assert_eq!(cancelled.code, "CUPEL_NATIVE_CANCELLED");
}

struct Only {
    tokens: Vec<u32>,
    taken: usize,
    calls: Arc<AtomicBool>,
}

impl Constraint for Only {
    fn mask(&mut self, allowed: &mut [u32]) -> Result<(), String> {
        self.calls.store(true, Ordering::Relaxed);
        allowed.fill(0);
        match self.tokens.get(self.taken) {
            Some(token) => allowed[*token as usize / 32] |= 1 << (token % 32),
            None => return Err("nothing left".to_string()),
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<bool, String> {
        assert_eq!(token, self.tokens[self.taken]);
        self.taken += 1;
        Ok(self.taken == self.tokens.len())
    }
}

#[test]
fn a_constraint_decides_what_may_come_and_when_it_ends() {
    let model = open("llama-tied-gqa9", 2, Isa::detect());
    let calls = Arc::new(AtomicBool::new(false));
    let with = |tokens: Vec<u32>, max_tokens: usize| GenerateRequest {
        prompt: vec![4, 5, 6],
        max_tokens,
        end_tokens: vec![191],
        constraint: Some(Box::new(Only { tokens, taken: 0, calls: Arc::clone(&calls) })),
        ..GenerateRequest::default()
    };
    let done = complete(&model, vec![with(vec![7, 150, 33], 9), with(vec![8, 191, 4], 9), with(vec![3; 9], 5)], 3);
    assert!(calls.load(Ordering::Relaxed));
    assert_eq!((&done[0].tokens[..], &done[0].finish), (&[7, 150, 33][..], &Finish::Stop));
    assert_eq!((&done[1].tokens[..], &done[1].finish), (&[8][..], &Finish::Stop));
    assert_eq!((done[2].tokens.len(), &done[2].finish), (5, &Finish::Length));
}

#[test]
fn a_run_resumed_from_its_state_goes_on_bit_by_bit() {
    let dir = std::env::temp_dir().join(format!("cupel-core-state-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("state.safetensors");
    let options = StepOptions { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, max_grad_norm: 1.0 };
    let one = |learner: &mut Learner, shift: i32| {
        let tokens: Vec<i32> = (0..20).map(|index| (index * 7 + shift) % 190).collect();
        let labelled: Vec<u8> = (0..20).map(|position| u8::from(position > 0)).collect();
        let scores = learner.forward(&tokens, &[0, 20], &labelled, true).unwrap();
        learner.backward(&vec![-0.1; scores.len()]).unwrap();
        learner.step(options).unwrap();
    };
    let mut straight = Learner::open(&folder("llama-tied-gqa9"), 1).unwrap();
    one(&mut straight, 0);
    straight.save_state(&file).unwrap();
    one(&mut straight, 1);
    let mut resumed = Learner::open(&folder("llama-tied-gqa9"), 2).unwrap();
    resumed.load_state(&file).unwrap();
    assert_eq!(resumed.steps(), 1);
    one(&mut resumed, 1);
    for name in straight.tensor_names() {
        assert_eq!(bits(&straight.tensor(&name).unwrap()), bits(&resumed.tensor(&name).unwrap()));
    }
    let mut other = Learner::open(&folder("llama-untied"), 1).unwrap();
    let before = other.tensor("model.norm.weight").unwrap();
    assert_eq!(other.load_state(&file).unwrap_err().code, "CUPEL_NATIVE_STATE_INVALID");
    assert_eq!(other.tensor("model.norm.weight").unwrap(), before);

    for (dtype, folder) in [(Dtype::F32, "full"), (Dtype::Bf16, "half")] {
        let out = dir.join(folder);
        straight.save(&out, dtype).unwrap();
        let again = Learner::open(&out, 1).unwrap();
        for name in again.tensor_names() {
            let (saved, kept) = (again.tensor(&name).unwrap(), straight.tensor(&name).unwrap());
            match dtype {
                Dtype::F32 => assert_eq!(bits(&saved), bits(&kept)),
                _ => assert!(saved.iter().zip(&kept).all(|(saved, kept)| (saved - kept).abs() <= kept.abs() / 256.0)),
            }
        }
        Model::open(&out, &OpenOptions::default()).unwrap();
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_gradient_that_is_not_finite_leaves_the_weights() {
    let mut learner = Learner::open(&folder("llama-untied"), 1).unwrap();
    let before = learner.tensor("lm_head.weight").unwrap();
    let options = StepOptions { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, max_grad_norm: 1.0 };
    assert_eq!(learner.backward(&[]).unwrap_err().code, "CUPEL_NATIVE_BATCH_INVALID");
    learner.forward(&[1, 2, 3], &[0, 3], &[0, 1, 1], true).unwrap();
    assert_eq!(learner.backward(&[1.0, f32::NAN]).unwrap_err().code, "CUPEL_NATIVE_GRADIENT_NONFINITE");
    learner.backward(&[f32::MAX, f32::MAX]).unwrap();
    let error = learner.step(options).unwrap_err();
    assert_eq!(error.code, "CUPEL_NATIVE_GRADIENT_NONFINITE");
    assert_eq!(bits(&before), bits(&learner.tensor("lm_head.weight").unwrap()));
    learner.clear_gradients();
    assert_eq!(learner.step(options).unwrap(), 0.0);
    assert_eq!(learner.step(StepOptions { lr: f64::NAN, ..options }).unwrap_err().code, "CUPEL_NATIVE_CONFIG_INVALID");
}

#[test]
fn malformed_batches_are_refused() {
    let mut learner = Learner::open(&folder("llama-untied"), 1).unwrap();
    let long = vec![1; 300];
    for (tokens, offsets, labelled, code) in [
        (&[1, 2][..], &[0, 2][..], &[1, 1][..], "CUPEL_NATIVE_BATCH_INVALID"),
        (&[1, 2], &[0, 1], &[0, 1], "CUPEL_NATIVE_BATCH_INVALID"),
        (&[1, 2], &[1, 2], &[0, 1], "CUPEL_NATIVE_BATCH_INVALID"),
        (&[1, 2], &[0, 3, 2], &[0, 1], "CUPEL_NATIVE_BATCH_INVALID"),
        (&[1, 2], &[0, -1, 2], &[0, 1], "CUPEL_NATIVE_BATCH_INVALID"),
        (&[1, 2], &[], &[0, 1], "CUPEL_NATIVE_BATCH_INVALID"),
        (&[1, 2], &[0, 2], &[0], "CUPEL_NATIVE_BATCH_INVALID"),
        (&[1, 2], &[0, 2], &[0, 7], "CUPEL_NATIVE_BATCH_INVALID"),
        (&[1, -2], &[0, 2], &[0, 1], "CUPEL_NATIVE_TOKEN_OUT_OF_RANGE"),
        (&[1, 256], &[0, 2], &[0, 1], "CUPEL_NATIVE_TOKEN_OUT_OF_RANGE"),
        (&long, &[0, 300], &[0; 300], "CUPEL_NATIVE_CONTEXT_OVERFLOW"),
    ] {
        assert_eq!(learner.forward(tokens, offsets, labelled, true).unwrap_err().code, code);
    }
    assert!(learner.forward(&[], &[0], &[], true).unwrap().is_empty());
    learner.backward(&[]).unwrap();
}
