//! Tensor names of llama.cpp beside those of Hugging Face.

/// Tensors outside of the layers.
const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Tensors of a layer, after `blk.N.` and `model.layers.N.`.
const LAYER: [(&str, &str); 14] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_q.bias", "self_attn.q_proj.bias"),
    ("attn_k.bias", "self_attn.k_proj.bias"),
    ("attn_v.bias", "self_attn.v_proj.bias"),
    ("attn_q_norm.weight", "self_attn.q_norm.weight"),
    ("attn_k_norm.weight", "self_attn.k_norm.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
];

/// Divisors of the rotary frequencies; part of the configuration here, a tensor there.
pub const ROPE_FACTORS: &str = "rope_freqs.weight";

/// llama.cpp's name of a Hugging Face tensor.
pub fn to_gguf(name: &str) -> Option<String> {
    if let Some((ours, _)) = WHOLE.iter().find(|(_, theirs)| *theirs == name) {
        return Some((*ours).to_string());
    }
    let (number, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer = layer_number(number)?;
    let (ours, _) = LAYER.iter().find(|(_, theirs)| *theirs == rest)?;
    Some(format!("blk.{layer}.{ours}"))
}

/// Hugging Face's name of a tensor of a GGUF file.
pub fn from_gguf(name: &str) -> Option<String> {
    if let Some((_, theirs)) = WHOLE.iter().find(|(ours, _)| *ours == name) {
        return Some((*theirs).to_string());
    }
    let (number, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer = layer_number(number)?;
    let (_, theirs) = LAYER.iter().find(|(ours, _)| *ours == rest)?;
    Some(format!("model.layers.{layer}.{theirs}"))
}

/// A number written as llama.cpp and Hugging Face write it: no sign, no leading zero.
fn layer_number(text: &str) -> Option<u16> {
    let number: u16 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_both_ways_and_others_do_not() {
        for (ours, theirs) in [
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
            ("blk.31.ffn_down.weight", "model.layers.31.mlp.down_proj.weight"),
        ] {
            assert_eq!(to_gguf(theirs).as_deref(), Some(ours));
            assert_eq!(from_gguf(ours).as_deref(), Some(theirs));
        }
        for name in ["blk.00.attn_q.weight", "blk.-1.attn_q.weight", "blk..attn_q.weight", "blk.0.attn_z.weight"] {
            assert_eq!(from_gguf(name), None);
        }
        assert_eq!(to_gguf("model.layers.+1.self_attn.q_proj.weight"), None);
    }
}
