"""Trains one job with TRL: the child process of Cupel's trainer `trl`.

    python -m torch.distributed.run --standalone --nproc_per_node N run_trl.py JOB.json

The job names its rows as token ids with label masks, the rows of every optimiser step, and every learning rate, so that
TRL sees the same tokens in the same steps as the native trainer. Nothing is tokenized, shuffled or truncated here.
Events are appended to the job's events file, a line of JSON each, by rank 0; an error may be written by any rank. The
process ends with 0 only after the event `done`.
"""

import copy
import importlib.metadata
import json
import math
import os
import platform
import sys
import traceback


class JobError(Exception):
    """An error with a code that the host knows."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Events:
    """Appends events; opened for each line, so that ranks never share a buffer."""

    def __init__(self, file):
        self.file = file

    def write(self, event, **fields):
        line = json.dumps({"v": 1, "event": event, **fields}, allow_nan=False) + "\n"
        with open(self.file, "a", encoding="utf-8") as handle:
            handle.write(line)


def finite(metrics):
    """Numbers that JSON can hold; a metric that is not finite is left out."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def installed(names):
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def read_rows(file):
    with open(file, encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def split(count, parts):
    """Sizes of `parts` contiguous blocks of `count` rows, as even as they can be, the larger ones first."""
    return [count // parts + (1 if part < count % parts else 0) for part in range(parts)]


def micro_batches(job, rank, world):
    """
    What this rank computes, a list of row lists in the order of computing. A step's rows are cut into world x
    accumulation contiguous blocks: micro-batch m of rank r is block m x world + r.
    """
    parts = world * job["accumulation"]
    batches = []
    for indices in job["steps"]:
        starts = [0]
        for size in split(len(indices), parts):
            starts.append(starts[-1] + size)
        for part in range(rank, parts, world):
            places = range(starts[part], starts[part + 1])
            batches.append(
                {
                    "rows": [indices[place] for place in places],
                    # KTO: the prompt of a row with the answer of the next one of the step, as the native trainer pairs them.
                    "mismatched": [indices[(place + 1) % len(indices)] for place in places],
                    # Turns TRL's mean over the micro-batch into this part's share of the mean over the step.
                    "factor": (starts[part + 1] - starts[part]) * parts / len(indices),
                }
            )
    return batches


def answer(row, sequence):
    tokens, prompt = row["sequences"][sequence]["tokens"], row["sequences"][sequence]["promptLength"]
    return tokens[:prompt], tokens[prompt:]


def sft_example(row):
    sequence = row["sequences"][0]
    labels = [token if labelled else -100 for token, labelled in zip(sequence["tokens"], sequence["labels"], strict=True)]
    return {"input_ids": sequence["tokens"], "labels": labels}


def dpo_example(row):
    prompt, chosen = answer(row, 0)
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": answer(row, 1)[1]}


def kto_example(row):
    prompt, completion = answer(row, 0)
    return {"prompt_ids": prompt, "completion_ids": completion, "label": row["desirable"]}


def odds_example(row):
    """Columns that ORPO's and CPO's collator pads."""
    example = {"prompt": "", "chosen": "", "rejected": ""}
    prompt, _ = answer(row, 0)
    example["prompt_input_ids"], example["prompt_attention_mask"] = prompt, [1] * len(prompt)
    for name, index in (("chosen", 0), ("rejected", 1)):
        _, completion = answer(row, index)
        example[f"{name}_input_ids"] = prompt + completion
        example[f"{name}_attention_mask"] = [1] * (len(prompt) + len(completion))
        example[f"{name}_labels"] = [-100] * len(prompt) + completion
    return example


def make_example(method, row):
    make = {"sft": sft_example, "dpo": dpo_example, "kto": kto_example}.get(method, odds_example)
    return make(row)


def classes(method):
    """The trainer and the config of a method, from where TRL 1.16 keeps them."""
    if method == "sft":
        from trl import SFTConfig, SFTTrainer

        return SFTTrainer, SFTConfig
    if method == "dpo":
        from trl import DPOConfig, DPOTrainer

        return DPOTrainer, DPOConfig
    if method == "kto":
        from trl import KTOConfig, KTOTrainer

        return KTOTrainer, KTOConfig
    if method == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ORPOTrainer, ORPOConfig
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    return CPOTrainer, CPOConfig


def prepared(trainer_class, job, rows, rank, world):
    """TRL's trainer, fed with prepared micro-batches and the job's learning rates."""
    import torch

    method = job["method"]
    batches = micro_batches(job, rank, world)

    def assemble(batch):
        examples = []
        for index, other in zip(batch["rows"], batch["mismatched"], strict=True):
            example = make_example(method, rows[index])
            if method == "kto" and job["mismatched"]:
                example["KL_completion_ids"] = answer(rows[other], 0)[1]
            examples.append(example)
        return examples

    class Prepared(trainer_class):
        def _prepare_dataset(self, dataset, *arguments, **named):
            return dataset

        def create_model_card(self, *arguments, **named):
            return None

        def tokenize_row(self, feature, *arguments, **named):
            return feature

        def get_train_dataloader(self):
            def collate(items):
                inputs = dict(self.data_collator(assemble(items[0])))
                if method != "sft":
                    inputs["cupel_factor"] = items[0]["factor"]
                return inputs

            return torch.utils.data.DataLoader(batches, batch_size=1, shuffle=False, collate_fn=collate)

        def compute_loss(self, model, inputs, *arguments, **named):
            factor = inputs.pop("cupel_factor", 1.0)
            loss = super().compute_loss(model, inputs, *arguments, **named)
            if not torch.isfinite(loss.detach()).all():
                raise JobError(
                    "CUPEL_TRL_NOT_FINITE", f"the loss of step {self.state.global_step + 1} is {loss.item()}"
                )
            return loss * factor

        def create_scheduler(self, num_training_steps, optimizer=None):
            rates = job["learningRates"]
            base = self.args.learning_rate
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer if optimizer is None else optimizer,
                lambda step: rates[min(step, len(rates) - 1)] / base,
            )
            return self.lr_scheduler

    return Prepared


def configured(config_class, job):
    device = job["device"]
    recipe = job["recipe"]
    distributed = {}
    if job["fsdp"] is not None:
        distributed = {"fsdp": "full_shard", "fsdp_config": job["fsdp"]}
    elif job["deepspeed"] is not None:
        distributed = {"deepspeed": job["deepspeed"]}
    checkpoints = job["checkpoints"]
    saving = (
        {"save_strategy": "no"}
        if checkpoints is None
        else {"save_strategy": "steps", "save_steps": checkpoints["everySteps"], "save_total_limit": checkpoints["keep"]}
    )
    extra = {"dataset_kwargs": {"skip_prepare_dataset": True}} if job["method"] == "sft" else {}
    return config_class(
        output_dir=job["checkpointFolder"],
        per_device_train_batch_size=job["rowsPerMicroBatch"],
        gradient_accumulation_steps=job["accumulation"],
        max_steps=len(job["steps"]),
        learning_rate=recipe["learningRate"],
        weight_decay=recipe["weightDecay"],
        adam_beta1=recipe["beta1"],
        adam_beta2=recipe["beta2"],
        adam_epsilon=recipe["epsilon"],
        max_grad_norm=recipe["maxGradNorm"],
        optim="adamw_torch",
        seed=job["seed"],
        data_seed=job["seed"],
        logging_steps=1,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        push_to_hub=False,
        use_cpu=device == "cpu",
        bf16=recipe["compute"] == "bf16",
        fp16=False,
        gradient_checkpointing=recipe["recompute"],
        ddp_find_unused_parameters=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=device != "cpu",
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        max_length=None,
        **saving,
        **distributed,
        **extra,
        **job["options"],
    )


def load_model(job):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(job["base"], local_files_only=True, trust_remote_code=False)
    for name in ("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "residual_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    model = AutoModelForCausalLM.from_pretrained(
        job["base"],
        config=config,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    model.config.use_cache = False
    tokenizer = AutoTokenizer.from_pretrained(job["base"], local_files_only=True, trust_remote_code=False)
    # Padding is masked, so that any token serves.
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(job["padToken"])
    if tokenizer.eos_token is None:
        tokenizer.eos_token = tokenizer.pad_token
    return model, tokenizer


def adapter_config(job):
    if job["adapter"] is None:
        return {}
    from peft import LoraConfig

    return {
        "peft_config": LoraConfig(
            r=job["adapter"]["rank"],
            lora_alpha=job["adapter"]["alpha"],
            target_modules=job["adapter"]["targets"],
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )
    }


def follow(job, events, rank, world):
    import torch
    from transformers import TrainerCallback

    class Follow(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **named):
            if logs is None or "loss" not in logs:
                return
            for name in ("loss", "grad_norm"):
                value = logs.get(name)
                if value is not None and not math.isfinite(value):
                    raise JobError("CUPEL_TRL_NOT_FINITE", f"the {name} of step {state.global_step} is {value}")
            if rank == 0:
                metrics = {name: value for name, value in logs.items() if name != "loss"}
                events.write(
                    "step",
                    step=state.global_step,
                    steps=state.max_steps,
                    loss=float(logs["loss"]),
                    metrics=finite(metrics),
                )

        def on_save(self, args, state, control, **named):
            if rank == 0:
                folder = os.path.join(args.output_dir, f"checkpoint-{state.global_step}")
                events.write("checkpoint", step=state.global_step, folder=folder)

        def on_step_end(self, args, state, control, **named):
            asked = 1.0 if os.path.exists(job["stopFile"]) else 0.0
            if world > 1:
                # All ranks must stop at the same step, whichever saw the file first.
                flag = torch.tensor(asked, device=args.device)
                torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
                asked = flag.item()
            if asked > 0:
                raise JobError("CUPEL_TRL_STOPPED", f"stopped after step {state.global_step}")

    return Follow()


def probe(trainer, job, rows):
    """Log-probability of the labelled tokens of some rows by the trained weights, for the host to compare."""
    import torch

    model = trainer.model_wrapped if job["fsdp"] is not None or job["deepspeed"] is not None else trainer.model
    model.eval()
    found = []
    with torch.no_grad():
        for index in job["probe"]:
            sequence = rows[index]["sequences"][0]
            tokens = torch.tensor([sequence["tokens"]], device=trainer.args.device)
            logits = model(input_ids=tokens, use_cache=False).logits.float()
            values = torch.log_softmax(logits[:, :-1], -1).gather(-1, tokens[:, 1:, None])[0, :, 0]
            mask = torch.tensor(sequence["labels"][1:], device=values.device, dtype=values.dtype)
            found.append({"row": index, "logProbability": float((values * mask).sum()), "tokens": int(mask.sum())})
    return found


def save(trainer, job, rank):
    """Writes the trained weights; every rank takes part in gathering them, rank 0 writes."""
    import torch

    dtype = torch.bfloat16 if job["dtype"] == "bf16" else torch.float32
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    if rank != 0:
        return
    if job["adapter"] is None:
        state = {name: tensor.to("cpu", dtype) for name, tensor in state.items()}
        model.config.dtype = dtype
        model.save_pretrained(job["output"], state_dict=state)
        return
    from peft import PeftModel, get_peft_model_state_dict
    from transformers import AutoModelForCausalLM

    folder = job["output"] if job["adapter"]["save"] == "adapter" else job["adapterFolder"]
    part = get_peft_model_state_dict(model, state_dict=state)
    os.makedirs(folder, exist_ok=True)
    from safetensors.torch import save_file

    save_file({name: tensor.to("cpu", torch.float32).contiguous() for name, tensor in part.items()},
              os.path.join(folder, "adapter_model.safetensors"), metadata={"format": "pt"})
    config = model.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(folder)
    if job["adapter"]["save"] == "adapter":
        return
    base = AutoModelForCausalLM.from_pretrained(
        job["base"], dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    merged = PeftModel.from_pretrained(base, folder).merge_and_unload()
    merged.to(dtype)
    merged.config.dtype = dtype
    merged.save_pretrained(job["output"])


def last_checkpoint(job):
    from transformers.trainer_utils import get_last_checkpoint

    if not job["resume"] or not os.path.isdir(job["checkpointFolder"]):
        return None
    return get_last_checkpoint(job["checkpointFolder"])


def run(job, events):
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    versions = installed(job["packages"])
    import torch

    if job["device"] == "auto":
        job["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    if job["device"] == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"

    if torch.distributed.is_available() and world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo" if job["device"] == "cpu" else None)
        world = torch.distributed.get_world_size()
    if rank == 0:
        events.write("hello", worldSize=world, versions=versions, python=platform.python_version(), device=job["device"])
    if world != job["processes"]:
        raise JobError("CUPEL_TRL_WORLD_SIZE", f"{world} processes run, {job['processes']} were asked for")
    if job["device"] == "cuda" and torch.cuda.device_count() < 1:
        raise JobError("CUPEL_TRL_DEVICE", "torch sees no CUDA device")

    from datasets import Dataset
    from transformers import set_seed

    set_seed(job["seed"])
    rows = read_rows(job["rows"])
    trainer_class, config_class = classes(job["method"])
    model, tokenizer = load_model(job)
    # TRL wants a dataset to look at; what is trained on comes from the prepared micro-batches.
    dataset = Dataset.from_list([make_example(job["method"], row) for row in rows])
    if job["method"] == "kto" and job["mismatched"]:
        dataset = dataset.add_column("KL_completion_ids", [answer(row, 0)[1] for row in rows])
    # With adapters the reference is the model without them.
    needs_reference = job["method"] in ("dpo", "kto") and job["adapter"] is None
    trainer = prepared(trainer_class, job, rows, rank, world)(
        model=model,
        **({"ref_model": copy.deepcopy(model)} if needs_reference else {}),
        args=configured(config_class, job),
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=[follow(job, events, rank, world)],
        **adapter_config(job),
    )
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if rank == 0:
        counts = [(parameter.numel(), parameter.requires_grad) for parameter in trainer.model.parameters()]
        events.write(
            "model",
            parameters=sum(count for count, _ in counts),
            trainableParameters=sum(count for count, trained in counts if trained),
        )
    trainer.train(resume_from_checkpoint=last_checkpoint(job))
    found = probe(trainer, job, rows)
    save(trainer, job, rank)
    trainer.accelerator.wait_for_everyone()
    if rank == 0:
        events.write("done", steps=trainer.state.global_step, probe=found)


def main():
    with open(sys.argv[1], encoding="utf-8") as handle:
        job = json.load(handle)
    events = Events(job["events"])
    try:
        run(job, events)
    except JobError as error:
        events.write("error", code=error.code, message=str(error))
        return 3
    except Exception as error:
        traceback.print_exc()
        events.write("error", code="CUPEL_TRL_FAILED", message=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
