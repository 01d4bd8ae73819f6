import type { Recipe, TrainJob } from '../../src/contracts/index.ts';
import { readParameters, type RecipeParameters, recipeOf, trainerOptions } from '../lib/recipe.ts';
import { trlErrors } from './errors.ts';
import { type Method, methodOptions, methodProperties, methods } from './methods.ts';

export const distributions = ['none', 'ddp', 'fsdp', 'deepspeed-zero1', 'deepspeed-zero2', 'deepspeed-zero3'] as const;
export type Distribution = (typeof distributions)[number];

/** A job of this trainer as checked. */
export interface TrlJob {
  readonly method: string;
  readonly shape: Method;
  readonly recipe: Recipe;
  readonly processes: number;
  readonly accumulation: number;
  readonly device: 'auto' | 'cpu' | 'cuda';
  readonly distributed: Distribution;
  /** TRL's own config fields. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly given: Readonly<Record<string, unknown>>;
}

const base = trainerOptions(2e-5, {
  method: { enum: Object.keys(methods), default: 'sft', description: 'What of TRL is run.' },
  processes: {
    type: 'integer',
    minimum: 1,
    maximum: 1024,
    default: 1,
    description: 'Processes that torchrun starts; a step is divided among them.',
  },
  accumulation: {
    type: 'integer',
    minimum: 1,
    maximum: 65536,
    default: 1,
    description: 'Micro-batches that a process divides its part of a step into.',
  },
  device: { enum: ['auto', 'cpu', 'cuda'], default: 'auto', description: 'auto: CUDA where torch sees a device.' },
  distributed: {
    enum: distributions,
    description: 'How weights are spread over the processes. Default: ddp where there is more than one.',
  },
  ...methodProperties,
});

const { microBatchTokens: _, ...properties } = base['properties'] as Readonly<Record<string, unknown>>;
/** JSON Schema of the parameters: the recipe, without `microBatchTokens`, which `accumulation` stands for here. */
export const trlOptions: Readonly<Record<string, unknown>> = { ...base, properties };

type Given = RecipeParameters &
  Pick<TrlJob, 'method' | 'processes' | 'accumulation' | 'device'> & { readonly distributed?: Distribution };

/**
 * The parameters of a job, checked and with defaults.
 * @throws CUPEL_FIELD_UNKNOWN, CUPEL_FIELD_INVALID, CUPEL_TRL_CANNOT naming what TRL can not be told
 */
export function readTrlJob(job: TrainJob): TrlJob {
  const given = readParameters<Given>(trlOptions, job.parameters, `parameters of job ${job.id}`);
  const { method, processes, accumulation, device } = given;
  const recipe = recipeOf({ ...given, microBatchTokens: Number.MAX_SAFE_INTEGER });
  const distributed = given.distributed ?? (processes > 1 ? 'ddp' : 'none');
  refuse(distributed === 'none' && processes > 1, `${processes} processes need a way to work together`, 'distributed');
  refuse(distributed === 'ddp' && processes === 1, 'one process has nobody to share with', 'distributed');
  refuse(recipe.tuning.kind === 'qlora', 'a quantized base is not part of the pinned environment', 'tuning');
  refuse(
    recipe.tuning.kind === 'lora' && recipe.tuning.base === 'bf16',
    'the frozen base is held in f32 here; bf16 is a choice of `compute`',
    'tuning.base',
  );
  refuse(
    job.resume && distributed.startsWith('deepspeed'),
    'DeepSpeed reads its checkpoints as pickles, which may run code',
    'resume',
  );
  refuse(recipe.checkpoints?.everyTokens !== undefined, 'TRL counts steps', 'checkpoints.everyTokens');
  refuse(recipe.overlong === 'window' && method !== 'sft', `${method} has no documents to cut`, 'overlong');
  refuse(job.replay !== null && job.replay.perStep > 0, 'TRL mixes no replayed rows into a step', 'replay');
  refuse(job.validation !== null, 'checkpoints are measured by the native trainers alone', 'validation');
  refuse(
    Object.values(job.logs ?? {}).some((log) => log !== undefined && log !== false),
    'extra logs are written by the native trainers alone; events.jsonl and trl.log are always kept',
    'logs',
  );
  const shape = methods[method] as Method;
  const options = methodOptions(method, job.parameters);
  return { method, shape, recipe, processes, accumulation, device, distributed, options, given: job.parameters };
}

function refuse(condition: boolean, message: string, where: string): void {
  if (condition) throw trlErrors.CUPEL_TRL_CANNOT({ message, where });
}
