"""What Transformers and PEFT make of checkpoints: `python peer_side.py <works.json>`. Prints one object a work.

A work names a folder (and a PEFT folder over it), texts with the token ids that Cupel gives them, and a safetensors file
with the log-probabilities that Cupel gives every token of the vocabulary after each of them.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

torch.set_num_threads(1)
with open(sys.argv[1], encoding="utf-8") as file:
    works = json.load(file)
for work in works:
    model = AutoModelForCausalLM.from_pretrained(work["folder"], dtype=torch.float32)
    if work["adapter"] is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, work["adapter"])
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(work["folder"])
    expected = load_file(work["expected"])
    worst, same_tokens, tokens = 0.0, True, 0
    for index, (text, ids) in enumerate(zip(work["texts"], work["ids"])):
        same_tokens = same_tokens and tokenizer(text, add_special_tokens=False)["input_ids"] == ids
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        found = torch.log_softmax(logits, dim=-1)
        worst = max(worst, (found - expected[f"text-{index:02d}"]).abs().max().item())
        tokens += len(ids) - 1
    print(json.dumps({"work": work["work"], "difference": worst, "sameTokens": same_tokens, "tokens": tokens}), flush=True)
