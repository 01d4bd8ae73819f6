//! What the scheduler promises: results depend on nothing but the request, memory has a bound, nothing is lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cupel_core::{
    Engine, Event, Finish, GenerateRequest, Generated, KvType, Model, OpenOptions, Sampling, ScoreItem, Scored,
    WeightType,
};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures/reference/models").join(name)
}

fn open(options: OpenOptions) -> Arc<Model> {
    Arc::new(Model::open(&folder("llama-tied-gqa9"), &options).unwrap())
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % limit
    }

    fn tokens(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.below(192) as u32).collect()
    }
}

/// Prompts of a few families that share beginnings of many lengths.
fn prompts(count: usize) -> Vec<Vec<u32>> {
    let mut random = Random(23);
    let beginnings: Vec<Vec<u32>> = (0..4).map(|family| random.tokens(family * 37 + 5)).collect();
    (0..count)
        .map(|_| {
            let beginning = &beginnings[random.below(4)];
            let mut prompt = beginning[..1 + random.below(beginning.len())].to_vec();
            let own = random.below(60);
            prompt.extend(random.tokens(own));
            prompt
        })
        .collect()
}

/// Every other request samples, so that the random numbers are held too.
fn request(number: usize, prompt: &[u32]) -> GenerateRequest {
    let sampling = if number.is_multiple_of(2) {
        Sampling::default()
    } else {
        Sampling { temperature: 0.8, top_p: 0.95, seed: number as u64, ..Sampling::default() }
    };
    GenerateRequest { prompt: prompt.to_vec(), max_tokens: 16, end_tokens: vec![5], sampling, ..Default::default() }
}

/// Runs until nothing is left; completions by id.
fn drain(engine: &mut Engine) -> Vec<(u64, Generated)> {
    let mut events = Vec::new();
    while engine.step(&mut events) {}
    let mut done: Vec<_> = events
        .into_iter()
        .filter_map(|event| match event {
            Event::Generated(id, generated) => Some((id, generated)),
            _ => None,
        })
        .collect();
    done.sort_by_key(|(id, _)| *id);
    done
}

fn tokens(engine: &mut Engine, prompts: &[Vec<u32>]) -> Vec<Vec<u32>> {
    prompts.iter().enumerate().for_each(|(number, prompt)| {
        engine.submit(request(number, prompt));
    });
    let done = drain(engine);
    assert_eq!(done.len(), prompts.len());
    done.into_iter().map(|(_, generated)| generated.tokens).collect()
}

fn score(engine: &mut Engine, items: &[ScoreItem]) -> Vec<(Vec<u32>, Vec<bool>)> {
    let id = engine.submit_score(items.to_vec());
    let mut events = Vec::new();
    while engine.step(&mut events) {}
    let scored = events.into_iter().find_map(|event| match event {
        Event::Scored(of, outcome) if of == id => Some(outcome.unwrap()),
        _ => None,
    });
    let bits = |scored: Scored| {
        (scored.log_probabilities.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), scored.is_greedy)
    };
    scored.unwrap().into_iter().map(bits).collect()
}

fn items(prompts: &[Vec<u32>]) -> Vec<ScoreItem> {
    let mut random = Random(5);
    prompts
        .iter()
        .flat_map(|prompt| {
            (0..3)
                .map(|option| ScoreItem {
                    context: prompt.clone(),
                    continuation: random.tokens(1 + option * 4),
                    adapter: None,
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

fn weights_and_caches() -> Vec<OpenOptions> {
    [
        (WeightType::AsStored, None),
        (WeightType::AsStored, Some(KvType::F16)),
        (WeightType::Q8_0, None),
        (WeightType::Q8_0, Some(KvType::Q8_0)),
        (WeightType::W8A8, None),
        (WeightType::Bf16, None),
    ]
    .into_iter()
    .map(|(weights, kv)| OpenOptions { threads: 1, weights, kv, ..OpenOptions::default() })
    .collect()
}

#[test]
fn two_hundred_prompts_alone_give_the_bits_of_batches_threads_caches_and_chunks() {
    let prompts = prompts(200);
    let scored_prompts = &prompts[..40];
    for options in weights_and_caches() {
        let model = open(options.clone());
        let alone: Vec<Vec<u32>> = prompts
            .iter()
            .enumerate()
            .map(|(number, prompt)| {
                let mut engine = Engine::new(Arc::clone(&model), 1);
                engine.submit(request(number, prompt));
                drain(&mut engine).remove(0).1.tokens
            })
            .collect();
        let items = items(scored_prompts);
        let scores: Vec<_> = items
            .iter()
            .map(|item| score(&mut Engine::new(Arc::clone(&model), 1), std::slice::from_ref(item)).remove(0))
            .collect();
        for (threads, batch, step_tokens) in [(1, 2, None), (2, 7, Some(19)), (2, 32, None), (3, 16, Some(64))] {
            let model = open(OpenOptions { threads, step_tokens, ..options.clone() });
            let mut engine = Engine::new(model, batch);
            let cold = tokens(&mut engine, &prompts);
            let warm = tokens(&mut engine, &prompts);
            assert!(cold == alone && warm == alone, "{options:?} {threads} {batch} {step_tokens:?}");
            assert!(engine.cache_statistics().hits > 0);
            let (cold, warm) = (score(&mut engine, &items), score(&mut engine, &items));
            assert!(cold == scores && warm == scores, "scores {options:?} {threads} {batch} {step_tokens:?}");
        }
    }
}

#[test]
fn under_pressure_pages_are_evicted_requests_wait_and_texts_stay() {
    let prompts = prompts(60);
    let plain = open(OpenOptions { threads: 1, ..OpenOptions::default() });
    let expected = tokens(&mut Engine::new(Arc::clone(&plain), 16), &prompts);
    // Room for 8 pages: two of the longest requests.
    let page = plain.kv_page_bytes();
    let tight = open(OpenOptions { threads: 2, kv_bytes: Some(8 * page), ..OpenOptions::default() });
    let mut engine = Engine::new(tight, 16);
    assert_eq!(tokens(&mut engine, &prompts), expected);
    assert!(engine.cache_statistics().evictions > 0);
    let item = ScoreItem { context: prompts[0].clone(), continuation: vec![3, 4, 5], adapter: None };
    let many: Vec<_> = (0..20).map(|last| ScoreItem { continuation: vec![3, last, 5], ..item.clone() }).collect();
    let plain = open(OpenOptions { threads: 1, ..OpenOptions::default() });
    assert_eq!(score(&mut engine, &many), score(&mut Engine::new(plain, 1), &many));
}

#[test]
fn what_can_never_fit_is_refused_and_the_others_are_answered() {
    let page = open(OpenOptions::default()).kv_page_bytes();
    let model = open(OpenOptions { threads: 1, kv_bytes: Some(3 * page), ..OpenOptions::default() });
    let mut engine = Engine::new(model, 8);
    let large = engine.submit(GenerateRequest { prompt: vec![1; 90], max_tokens: 40, ..Default::default() });
    let small = engine.submit(GenerateRequest { prompt: vec![1; 60], max_tokens: 20, ..Default::default() });
    let done = drain(&mut engine);
    assert_eq!((done[0].0, done[1].0), (large, small));
    assert!(matches!(&done[0].1.finish, Finish::Error(error) if error.code == "CUPEL_NATIVE_KV_BUDGET"));
    assert_eq!((&done[1].1.finish, done[1].1.tokens.len()), (&Finish::Length, 20));
}

#[test]
fn requests_join_a_running_batch_and_a_cancelled_one_leaves_it_within_a_step() {
    let prompts = prompts(12);
    let model = open(OpenOptions { threads: 2, step_tokens: Some(40), ..OpenOptions::default() });
    let expected = tokens(&mut Engine::new(Arc::clone(&model), 16), &prompts);
    let mut engine = Engine::new(model, 16);
    let mut events = Vec::new();
    let mut ids = Vec::new();
    for (number, prompt) in prompts.iter().enumerate() {
        ids.push(engine.submit(request(number, prompt)));
        engine.step(&mut events);
    }
    engine.cancel(ids[11]);
    let group = engine.submit_score(vec![ScoreItem { context: vec![1], continuation: vec![2; 190], adapter: None }]);
    engine.step(&mut events);
    engine.cancel(group);
    while engine.step(&mut events) {}
    let mut seen = 0;
    for event in events {
        match event {
            Event::Generated(id, generated) => {
                let number = ids.iter().position(|known| *known == id).unwrap();
                assert_eq!(generated.tokens, expected[number]);
                assert_ne!(number, 11);
                seen += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, 11);
    assert!(!engine.has_work());
}

#[test]
fn a_stream_tells_every_token_in_order_before_the_end() {
    let model = open(OpenOptions { threads: 1, ..OpenOptions::default() });
    let mut engine = Engine::new(model, 4);
    let id = engine.submit(GenerateRequest { prompt: vec![7, 8], max_tokens: 9, stream: true, ..Default::default() });
    let mut events = Vec::new();
    while engine.step(&mut events) {}
    let Some(Event::Generated(of, generated)) = events.pop() else { panic!("no end") };
    let told: Vec<u32> = events
        .iter()
        .map(|event| match event {
            Event::Token { id: of, token } if *of == id => *token,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((of, told), (id, generated.tokens));
}

#[test]
fn a_request_that_fills_the_whole_cache_fits_again_beside_its_own_cached_beginning() {
    let page = open(OpenOptions::default()).kv_page_bytes();
    let model = open(OpenOptions { threads: 1, kv_bytes: Some(4 * page), ..OpenOptions::default() });
    let mut engine = Engine::new(Arc::clone(&model), 2);
    let prompt: Vec<u32> = (0..40).collect();
    let whole = || GenerateRequest { prompt: prompt.clone(), max_tokens: 88, ..Default::default() };
    let mut texts = Vec::new();
    for _ in 0..3 {
        engine.submit(whole());
        let (_, generated) = drain(&mut engine).remove(0);
        assert_eq!(generated.finish, Finish::Length);
        texts.push(generated.tokens);
    }
    assert!(texts[0].len() == 88 && texts.iter().all(|text| *text == texts[0]));
    // Held branches of a context take the same way out.
    let item = |last: u32| ScoreItem { context: prompt.clone(), continuation: vec![last; 89], adapter: None };
    let scored = score(&mut engine, &[item(3), item(4), item(5)]);
    assert_eq!(scored[1], score(&mut Engine::new(model, 1), &[item(4)])[0]);
}

#[test]
fn a_score_that_is_not_a_number_is_an_error_and_never_a_log_probability() {
    // Keys beyond half precision: infinite in an f16 cache.
    let dir = std::env::temp_dir().join(format!("cupel-core-overflow-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(folder("qwen2-tied").join("config.json"), dir.join("config.json")).unwrap();
    let mut file = cupel_core::safetensors::Checkpoint::open(&folder("qwen2-tied")).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = file
        .names()
        .into_iter()
        .map(|name| {
            let shape = file.shape(&name).unwrap().to_vec();
            let mut values = vec![0.0; shape.iter().product()];
            file.read(&name, &shape, &mut values).unwrap();
            if name.ends_with("k_proj.bias") {
                values.fill(1e6);
            }
            (name, shape, values)
        })
        .collect();
    let borrowed: Vec<_> =
        tensors.iter().map(|(name, shape, values)| cupel_core::safetensors::Tensor { name, shape, values }).collect();
    cupel_core::safetensors::write(&dir.join("model.safetensors"), &borrowed, cupel_core::Dtype::F32, &[]).unwrap();
    let options = OpenOptions { threads: 1, kv: Some(KvType::F16), ..OpenOptions::default() };
    let mut engine = Engine::new(Arc::new(Model::open(&dir, &options).unwrap()), 2);
    for count in [1, 3] {
        let items =
            (0..count).map(|last| ScoreItem { context: vec![1, 2], continuation: vec![3, last], adapter: None });
        let error = engine.score(items.collect(), &std::sync::atomic::AtomicBool::new(false)).unwrap_err();
        assert_eq!(error.code, "CUPEL_NATIVE_OUTPUT_NONFINITE");
    }
    engine.submit(GenerateRequest { prompt: vec![1, 2], max_tokens: 4, ..Default::default() });
    let (_, generated) = drain(&mut engine).remove(0);
    assert!(matches!(&generated.finish, Finish::Error(error) if error.code == "CUPEL_NATIVE_OUTPUT_NONFINITE"));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn ten_thousand_waiting_requests_are_cancelled_in_one_pass() {
    let model = open(OpenOptions { threads: 1, ..OpenOptions::default() });
    let mut engine = Engine::new(model, 2);
    let ids =
        (0..10_000).map(|_| engine.submit(GenerateRequest { prompt: vec![1], max_tokens: 9, ..Default::default() }));
    let ids: std::collections::HashSet<u64> = ids.collect();
    engine.step(&mut Vec::new());
    engine.cancel_all(&ids);
    assert!(!engine.has_work());
}
