"""PyTorch at one job, in a process of its own: `python torch_side.py <job as JSON>`. Prints one object a step.

Plain eager torch over the Transformers model: no trainer, no logging, nothing that a loop of one's own would leave out.
"""

import json
import os
import resource
import sys
import time

given = json.loads(sys.argv[1])
job = given["job"]
os.environ["OMP_NUM_THREADS"] = str(given["threads"])

import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

torch.set_num_threads(given["threads"])
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(given["folder"], dtype=torch.float32)
if job["tuning"] == "lora":
    from peft import LoraConfig, get_peft_model

    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapter = given["adapter"]
    model = get_peft_model(
        model,
        LoraConfig(r=adapter["rank"], lora_alpha=adapter["alpha"], target_modules=projections, task_type="CAUSAL_LM"),
    )
model.train()
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
o = given["optimiser"]
adamw = torch.optim.AdamW(
    trained, lr=o["learningRate"], betas=(o["beta1"], o["beta2"]), eps=o["epsilon"], weight_decay=o["weightDecay"]
)
tokens = torch.tensor(given["tokens"]).view(job["sequences"], job["length"])
for step in range(given["steps"]):
    cpu, start = time.process_time(), time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=job["compute"] == "bf16"):
        loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, o["maxGradNorm"])
    adamw.step()
    adamw.zero_grad()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    record = {"step": step, "loss": loss.item(), "seconds": seconds, "cpuSeconds": cpu_seconds, "peak": peak}
    print(json.dumps(record), flush=True)
