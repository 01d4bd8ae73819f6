import type { TrlJob } from './parameters.ts';

/** The `fsdp_config` of transformers for a job; null: the job is not sharded by FSDP. */
export function fsdpConfig({ distributed, recipe }: Pick<TrlJob, 'distributed' | 'recipe'>): object | null {
  if (distributed !== 'fsdp') return null;
  return {
    version: 2,
    auto_wrap_policy: 'TRANSFORMER_BASED_WRAP',
    reshard_after_forward: true,
    state_dict_type: 'FULL_STATE_DICT',
    cpu_ram_efficient_loading: false,
    cpu_offload: false,
    activation_checkpointing: recipe.recompute,
  };
}

/** The DeepSpeed configuration of a job; null: the job does not run by DeepSpeed. */
export function deepspeedConfig({ distributed, recipe }: Pick<TrlJob, 'distributed' | 'recipe'>): object | null {
  const stage = /^deepspeed-zero([123])$/.exec(distributed)?.[1];
  if (stage === undefined) return null;
  return {
    train_micro_batch_size_per_gpu: 'auto',
    gradient_accumulation_steps: 'auto',
    train_batch_size: 'auto',
    gradient_clipping: 'auto',
    bf16: { enabled: recipe.compute === 'bf16' },
    zero_optimization: {
      stage: Number(stage),
      overlap_comm: true,
      contiguous_gradients: true,
      ...(stage === '3' ? { stage3_gather_16bit_weights_on_model_save: true } : {}),
    },
    wall_clock_breakdown: false,
  };
}

/**
 * The same as a configuration of `accelerate launch`, for who starts run_trl.py on several machines by hand. The
 * trainer itself starts torchrun, because `accelerate launch --cpu --num_processes 2` runs one process.
 */
export function accelerateConfig(
  job: Pick<TrlJob, 'distributed' | 'recipe' | 'processes'>,
  device: 'cpu' | 'cuda',
): Readonly<Record<string, unknown>> {
  const fsdp = fsdpConfig(job);
  const deepspeed = deepspeedConfig(job);
  return {
    compute_environment: 'LOCAL_MACHINE',
    distributed_type:
      fsdp !== null
        ? 'FSDP'
        : deepspeed !== null
          ? 'DEEPSPEED'
          : job.processes === 1
            ? 'NO'
            : device === 'cpu'
              ? 'MULTI_CPU'
              : 'MULTI_GPU',
    num_machines: 1,
    num_processes: job.processes,
    mixed_precision: job.recipe.compute === 'bf16' ? 'bf16' : 'no',
    use_cpu: device === 'cpu',
    ...(fsdp === null
      ? {}
      : {
          fsdp_config: Object.fromEntries(
            Object.entries(fsdp).map(([key, value]) => [`fsdp_${key}`, value as unknown]),
          ),
        }),
    ...(deepspeed === null ? {} : { deepspeed_config: { deepspeed_config_file: 'deepspeed.json' } }),
  };
}
