//! Against probabilities that Transformers' logits processors gave (tests/reference.txt).

use cupel_sampling::{Sampler, Sampling};

fn numbers<T: std::str::FromStr>(line: &str, name: &str) -> Vec<T>
where
    T::Err: std::fmt::Debug,
{
    let rest = line.strip_prefix(name).unwrap_or_else(|| panic!("{line} is no {name}"));
    rest.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

#[test]
fn truncations_and_penalties_are_those_of_transformers() {
    let text = include_str!("reference.txt");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), 5 * 36);
    for case in lines.chunks(5) {
        let values = numbers::<f64>(case[0], "case");
        let sampling = Sampling {
            temperature: values[0],
            top_k: Some(values[1] as u32).filter(|&count| count > 0),
            top_p: values[2],
            min_p: values[3],
            repetition_penalty: values[4],
            frequency_penalty: values[5],
            presence_penalty: values[6],
            ..Sampling::default()
        };
        sampling.validate(40).unwrap();
        let mut sampler = Sampler::new(sampling, 0);
        sampler.prompt(&numbers::<u32>(case[1], "prompt"));
        numbers::<u32>(case[2], "completion").into_iter().for_each(|token| sampler.accept(token));
        let mut logits = numbers::<f32>(case[3], "logits");
        let mut found = sampler.distribution(&mut logits, None).unwrap();
        // What is hardly ever drawn is no difference.
        found.retain(|&(_, share)| share > 1e-12);
        let expected: Vec<(u32, f64)> = case[4]
            .split_whitespace()
            .skip(1)
            .map(|word| word.split_once(':').unwrap())
            .map(|(token, share)| (token.parse().unwrap(), share.parse().unwrap()))
            .filter(|&(_, share): &(u32, f64)| share > 1e-12)
            .collect();
        let tokens = |pairs: &[(u32, f64)]| pairs.iter().map(|&(token, _)| token).collect::<Vec<u32>>();
        assert_eq!(tokens(&found), tokens(&expected), "{}", case[0]);
        for (&(token, share), &(_, expected)) in found.iter().zip(&expected) {
            // Transformers computes in f32: 2e-6 relative covers its rounding at these logits.
            assert!((share - expected).abs() <= 2e-6 * expected + 1e-12, "{}: {token} {share} {expected}", case[0]);
        }
    }
}
