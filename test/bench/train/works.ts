// The rows of the training bench: what is trained, and what is asked of it.
import type { LlamaShape } from '../lib/llama-folder.ts';
import { shape as smol } from '../engine/model.ts';

/** A training job that both sides do: random tokens, every one after the first labelled, AdamW with clipping. */
export interface Job {
  readonly model: 'small' | 'smol';
  readonly tuning: 'full' | 'lora';
  readonly compute: 'f32' | 'bf16';
  readonly sequences: number;
  readonly length: number;
  /** Ours keeps the input of each layer alone; the peer trains as it does. */
  readonly recompute?: true;
}

export interface Work {
  readonly id: string;
  readonly title: string;
  readonly unit: 'tokens/s' | 'MiB' | 's' | 'ratio';
  readonly job: Job;
  /** What the peer computes in; its faster one where the row says so. */
  readonly peerCompute: 'f32' | 'bf16';
  /** Of the ratio for rates; in the unit, and at most, for the rest. */
  readonly must: number;
  readonly goal: number;
}

export const shapes: Readonly<Record<Job['model'], LlamaShape>> = {
  small: {
    layers: 6,
    hidden: 192,
    heads: 6,
    keyValueHeads: 3,
    headSize: 32,
    feedForward: 512,
    vocabulary: 4096,
    context: 512,
    ropeTheta: 10_000,
    epsilon: 1e-5,
  },
  smol,
};

const small: Job = { model: 'small', tuning: 'full', compute: 'f32', sequences: 32, length: 256 };
const full: Job = { model: 'smol', tuning: 'full', compute: 'bf16', sequences: 8, length: 256 };
const lora: Job = { ...full, tuning: 'lora' };
const fullRecompute: Job = { ...full, recompute: true };
const loraRecompute: Job = { ...lora, recompute: true };
const smallBf16: Job = { ...small, compute: 'bf16' };

export const works: readonly Work[] = [
  rate('small-f32', '3M, full, 32 × 256, f32', small, 'f32', 1, 2),
  rate('small-bf16', '3M, full, 32 × 256, bf16', smallBf16, 'bf16', 1, 2),
  rate('smol-full', 'SmolLM2-135M shape, full, 8 × 256, bf16', full, 'bf16', 1, 2),
  rate('smol-lora', 'SmolLM2-135M shape, LoRA r16, 8 × 256, bf16', lora, 'bf16', 1, 2),
  rate('smol-full-recompute', 'the same with recomputation', fullRecompute, 'bf16', 1, 2),
  rate('smol-lora-recompute', 'the same with LoRA and recomputation', loraRecompute, 'bf16', 1, 2),
  memory('small-memory', 'peak memory of 3M, full', smallBf16, 800, 400),
  memory('smol-full-memory', 'peak memory of 135M, full', full, 3400, 2500),
  memory('smol-full-recompute-memory', 'the same with recomputation', fullRecompute, 3400, 2500),
  memory('smol-lora-memory', 'peak memory of 135M, LoRA', lora, 1800, 1000),
  memory('smol-lora-recompute-memory', 'the same with recomputation', loraRecompute, 1800, 1000),
  {
    id: 'first-step',
    title: 'process start to first step finished, 3M',
    unit: 's',
    job: smallBf16,
    peerCompute: 'bf16',
    must: 2,
    goal: 0.5,
  },
  {
    id: 'scaling',
    title: 'CPU seconds with 2 threads ÷ with 1, 3M',
    unit: 'ratio',
    job: small,
    peerCompute: 'f32',
    must: 1.15,
    goal: 1.05,
  },
];

function rate(id: string, title: string, job: Job, peerCompute: Work['peerCompute'], must: number, goal: number): Work {
  return { id, title, unit: 'tokens/s', job, peerCompute, must, goal };
}

function memory(id: string, title: string, job: Job, must: number, goal: number): Work {
  return { id, title, unit: 'MiB', job, peerCompute: 'bf16', must, goal };
}

/** AdamW and clipping of both sides. */
export const optimiser = {
  learningRate: 1e-3,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  maxGradNorm: 1,
} as const;

export const adapter = { rank: 16, alpha: 32 } as const;

/** Token ids of a job, the same for both sides: a linear congruence, [sequences × length]. */
export function tokensOf(job: Job): Int32Array {
  let state = 12345;
  return Int32Array.from({ length: job.sequences * job.length }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >>> 8) % shapes[job.model].vocabulary;
  });
}
